"""All that a guest can write into and around its clone so that a git on the host would run it: each leaves a file of its own.

A place is somewhere that git reads configuration or commands from; a key is one that names a command. `plant` describes the files, relative to the
work tree; the guest's root writes them. Every value is the path, on the host, of a script in the clone that touches CANARIES/<place>/<key>: inside the
guest that path does not exist, so what the guest's own git does with it leaves nothing.
"""

import pathlib

DRIVERS = {  # attribute drivers: .gitattributes gives them to every file
    "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv", "diff.evil.command", "merge.evil.driver",
}
COMMANDS = sorted(DRIVERS | {
    "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass", "core.gitProxy", "core.alternateRefsCommand",
    "sequence.editor", "interactive.diffFilter", "pager.status", "pager.log", "pager.diff", "pager.branch", "pager.show", "diff.external",
    "mergetool.evil.cmd", "mergetool.evil.path", "difftool.evil.cmd", "credential.helper", "credential.https://example.invalid.helper",
    "gpg.program", "gpg.openpgp.program", "gpg.ssh.program", "gpg.x509.program", "gpg.ssh.defaultKeyCommand", "uploadpack.packObjectsHook",
    "remote.origin.uploadpack", "remote.origin.receivepack", "sendemail.sendmailCmd", "sendemail.smtpServer", "sendemail.toCmd",
    "sendemail.ccCmd", "sendemail.headerCmd", "trailer.evil.command", "trailer.evil.cmd", "man.evil.cmd", "browser.evil.cmd", "browser.evil.path",
    "guitool.evil.cmd", "instaweb.httpd", "imap.tunnel", "gc.recentObjectsHook", "tar.evil.command", "hook.evil.command",
})
SHELL = ("alias.status", "alias.fetch", "alias.log", "alias.evil", "submodule.nested.update")  # "!command"
EXT = ("remote.evil.url", "remote.origin.url", "remote.origin.pushurl", "branch.main.remote", "submodule.nested.url")  # "ext::command"
REWRITES = ("insteadOf", "pushInsteadOf")  # url.ext::command.<key> = https://
SWITCHES = {  # what makes git look at the above
    "commit.gpgSign": "true", "tag.gpgSign": "true", "log.showSignature": "true", "merge.tool": "evil", "diff.tool": "evil", "gpg.format": "ssh",
    "protocol.ext.allow": "always", "protocol.allow": "always", "submodule.recurse": "true", "fetch.recurseSubmodules": "true", "web.browser": "evil",
    "man.viewer": "evil", "remote.evil.promisor": "true", "remote.evil.partialCloneFilter": "blob:none", "hook.evil.event": "pre-commit",
    "core.quotePath": "false", "remote.evil.fetch": "+refs/heads/*:refs/evil/*", "submodule.nested.active": "true",
}
HOOKS = ("applypatch-msg", "pre-applypatch", "post-applypatch", "pre-commit", "pre-merge-commit", "prepare-commit-msg", "commit-msg", "post-commit",
         "pre-rebase", "post-checkout", "post-merge", "pre-push", "pre-receive", "update", "proc-receive", "post-receive", "post-update",
         "reference-transaction", "push-to-checkout", "pre-auto-gc", "post-rewrite", "sendemail-validate", "fsmonitor-watchman", "post-index-change",
         "p4-pre-submit")
KEYS = len(COMMANDS) + len(SHELL) + len(EXT) + len(REWRITES) + 1  # and core.hooksPath

# place -> what it is. Each has scripts of its own, so that a canary names both.
PLACES = {
    "config": ".git/config itself",
    "config.worktree": "the work tree's own configuration",
    "include": "a file that include.path names",
    "includeif": "a file that includeIf names",
    "hooks": ".git/hooks",
    "gitdir": "a .git file that leads to a git dir, whose commondir file leads to configuration",
    "nested": "a repository inside the work tree, as a submodule would be",
    "bare": "a bare repository inside the work tree",
    "alternate": "a repository that .git/objects/info/alternates names",
    "home": "the guest's own ~/.gitconfig and /etc/gitconfig",
}
SCRIPTS = ".evil"  # below the work tree


def words(key):
    """["section", "sub section", "name"] of a key."""
    first, last = key.index("."), key.rindex(".")
    return key[:first], key[first + 1 : last] if last > first else "", key[last + 1 :]


def line(key, value):
    section, subsection, name = words(key)
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'[{section}{f" {chr(34)}{subsection}{chr(34)}" if subsection else ""}]\n\t{name} = "{quoted}"\n'


class Garden:
    """The files of all places. `clone`: the work tree's path on the host. `canaries`: a folder of the host."""

    def __init__(self, clone, canaries):
        self.clone, self.canaries = pathlib.Path(clone), pathlib.Path(canaries)
        self.files = {}  # path below the work tree, or absolute inside the guest -> (text, mode)

    def script(self, place, key):
        """A script of the clone that leaves the canary; its path on the host."""
        name = key.replace("/", "_").replace(":", "_")
        path = f"{SCRIPTS}/{place}/{name}"
        # A hook or helper that fails would end git early; one that talks too much would hang it.
        self.files[path] = (f"#!/bin/sh\n: >'{self.canaries}/{place}~{name}'\nexit 0\n", 0o755)
        return str(self.clone / path)

    def config(self, place):
        text = "".join(line(key, self.script(place, key)) for key in COMMANDS)
        text += "".join(line(key, "!" + self.script(place, key)) for key in SHELL)
        text += "".join(line(key, "ext::" + self.script(place, key)) for key in EXT)
        for key in REWRITES:
            text += f'[url "ext::{self.script(place, key)}"]\n\t{key} = https://\n'
        text += "".join(line(key, value) for key, value in SWITCHES.items())
        return text + line("core.hooksPath", str(self.clone / SCRIPTS / f"{place}.hooks")) + self.hooks(place, f"{SCRIPTS}/{place}.hooks")

    def hooks(self, place, folder):
        for hook in HOOKS:
            path = self.script(place, f"hook-{hook}")
            self.files[f"{folder}/{hook}"] = (f"#!/bin/sh\nexec '{path}'\n", 0o755)
        return ""

    def repository(self, folder, place, bare=False):
        """One that git takes for sound, without a commit."""
        self.files[f"{folder}/HEAD"] = ("ref: refs/heads/main\n", 0o644)
        self.files[f"{folder}/objects/.keep"] = self.files[f"{folder}/refs/.keep"] = ("", 0o644)
        core = f"[core]\n\trepositoryformatversion = 0\n\tbare = {'true' if bare else 'false'}\n"
        self.files[f"{folder}/config"] = (core + self.config(place), 0o644)
        self.hooks(place, f"{folder}/hooks")

    def plant(self):
        attributes = "* filter=evil diff=evil merge=evil\n"
        self.files[".git/info/attributes"] = (attributes, 0o644)
        self.files[f"{SCRIPTS}/attributes"] = (attributes, 0o644)
        # The rescue of uncommitted work must not drown in our own files.
        self.files[".git/info/exclude"] = (f"{SCRIPTS}\nnested\nbare.git\n", 0o644)
        self.files[".git/config.worktree"] = (self.config("config.worktree"), 0o644)
        for place in ("include", "includeif"):
            self.files[f".git/{place}.config"] = (self.config(place), 0o644)
        self.hooks("hooks", ".git/hooks")
        self.files[f"{SCRIPTS}/tree/.git"] = ("gitdir: ../linked\n", 0o644)
        self.files[f"{SCRIPTS}/linked/HEAD"] = ("ref: refs/heads/main\n", 0o644)
        self.files[f"{SCRIPTS}/linked/gitdir"] = (f"{self.clone}/{SCRIPTS}/tree/.git\n", 0o644)
        self.files[f"{SCRIPTS}/linked/commondir"] = ("../common\n", 0o644)
        self.repository(f"{SCRIPTS}/common", "gitdir")
        self.repository("nested/.git", "nested")
        self.files["nested/file"] = ("x\n", 0o644)
        self.repository("bare.git", "bare", bare=True)
        self.repository(f"{SCRIPTS}/alternate", "alternate", bare=True)
        self.files[".git/objects/info/alternates"] = (f"/workspace/{SCRIPTS}/alternate/objects\n{self.clone}/{SCRIPTS}/alternate/objects\n", 0o644)
        for path in ("/home/agent/.gitconfig", "/root/.gitconfig"):
            # This one key works from there inside the guest, too: its upload-pack would end with it.
            self.files[path] = (self.config("home").replace("packObjectsHook", "notTheHook"), 0o644)
        # Last, on top of what the clone has: the guest appends it.
        self.files[f"{SCRIPTS}/appended"] = (
            line("core.attributesFile", str(self.clone / SCRIPTS / "attributes")) + "[extensions]\n\tworktreeConfig = true\n" + self.config("config")
            + "[include]\n\tpath = include.config\n" + '[includeIf "gitdir:/"]\n\tpath = includeif.config\n', 0o644)
        return self.files
