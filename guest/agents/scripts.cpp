#include <fmt/format.h>

#include "guest/agents/agents.hpp"
#include "guest/protocol/frame.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::guest {
namespace {

constexpr const char* variables_file = "/run/agentvm/agent.env";
constexpr const char* session_program = "/usr/local/lib/agentvm/agent-session";
constexpr const char* says_program = "/usr/local/lib/agentvm/agent-says";

/// Of a name that may have a scope: "codex" of "@openai/codex".
std::string last_part(const std::string& name) {
  return name.substr(name.rfind('/') + 1);
}

/// A word of the command, as it is in the guest.
std::string placed(const AgentDefinition& agent, const std::string& word) {
  return word.starts_with("./") ? layer_folder(agent.name) + word.substr(1) : word;
}

std::string fetch_lines(const AgentPackage& package, const std::string& registry) {
  const auto url = fmt::format("{}/{}/-/{}-{}.tgz", registry, package.name, last_part(package.name), package.version);
  const auto folder = "node_modules/" + package.name;
  return fmt::format(
      // The way out is the host's: what is 'localhost' to it is no server in here.
      "curl -fsS --noproxy '' --retry 3 --connect-timeout 20 -L -o \"$work/package.tgz\" {url}\n"
      "echo '{digest}  '\"$work/package.tgz\" | sha512sum --check --status || {{ echo {what} 'is not what was pinned' "
      ">&2; exit 1; }}\n"
      "mkdir -p {folder}\n"
      "tar -xzf \"$work/package.tgz\" --no-same-owner --strip-components=1 -C {folder}\n"
      "rm \"$work/package.tgz\"\n",
      fmt::arg("url", shell_word(url)), fmt::arg("digest", package.sha512),
      fmt::arg("what", shell_word(package.name + " " + package.version)), fmt::arg("folder", shell_word(folder)));
}

/// A shell script that starts the program as `agent` is to be started.
std::string wrapper(const AgentDefinition& agent) {
  std::string text = "#!/bin/sh\n";
  for (const auto& [name, value] : agent.environment) text += fmt::format("export {}={}\n", name, shell_word(value));
  text += fmt::format("[ ! -r {0} ] || . {0}\nexec", variables_file);
  for (const auto& word : agent.command) text += " " + shell_word(placed(agent, word));
  for (const auto& word : agent.arguments) text += " " + shell_word(word);
  return text + " \"$@\"\n";
}

/// Writes `content` to the file `path`, its folder made.
std::string write_lines(const std::string& path, const std::string& content, const char* mode) {
  const auto folder = path.substr(0, path.rfind('/'));
  return fmt::format("mkdir -p {0}\nprintf %s {1} >{2}.new\nchmod {3} {2}.new\nmv {2}.new {2}\n", shell_word(folder),
                     shell_word(content), shell_word(path), mode);
}

/// Runs an agent program in this terminal, and notes how it is; when it ends, a shell takes its place.
std::string session_text() {
  return fmt::format(R"(#!/bin/sh
AGENTVM_SESSION=$1
export AGENTVM_SESSION
note=/{}/$1
shift
tell() {{ rm -f "$note.said"; echo "$1" >"$note.new" && mv "$note.new" "$note"; }}
tell "running $$"
"$@"
code=$?
tell "ended $code"
printf '\n%s ended with status %s; `%s` starts it again.\n' "$1" "$code" "$1"
exec "${{SHELL:-/bin/bash}}" -l
)",
                     session_notes_folder);
}

/// What hooks of agent programs call, and tmux at a bell: notes that the session's program waits, works or rang. A hook
/// may give more words than the first.
std::string says_text() {
  return fmt::format(R"(#!/bin/sh
case $AGENTVM_SESSION in "" | *[!a-zA-Z0-9_-]*) exit 0 ;; esac
note=/{}/$AGENTVM_SESSION
[ -f "$note" ] || exit 0
case $1 in
  waiting | bell) echo "$1" >"$note.said" ;;
  working) rm -f "$note.said" ;;
esac
exit 0
)",
                     session_notes_folder);
}

}  // namespace

std::string install_script(const AgentDefinition& agent, const std::string& registry) {
  auto base = registry;
  while (base.ends_with('/')) base.pop_back();
  // Root of the control port has no proxy variables of its own.
  std::string text = fmt::format(
      "set -eu\nset -a\n. /etc/environment\nset +a\numask 022\nwork=/var/tmp/agentvm-work\nmkdir -p \"$work\" {0}\ncd "
      "{0}\n",
      shell_word(layer_folder(agent.name)));
  for (const auto& package : agent.packages) text += fetch_lines(package, base);
  if (!agent.install.empty()) text += "sh -eu -c " + shell_word(agent.install) + "\n";
  for (const auto& word : agent.command)
    if (word.starts_with("./"))
      text += fmt::format("[ -e {0} ] || {{ echo {0} 'is not among what was installed' >&2; exit 1; }}\n",
                          shell_word(word));
  // Room for what an ext4 file system needs besides, counted in KiB.
  text += fmt::format(
      "size=$(( $(du -sk --apparent-size . | cut -f1) * 110 / 100 + 16384 ))\n"
      "inodes=$(( $(find . | wc -l) + 64 ))\n"
      "rm -f {0}\n"
      "mke2fs -q -t ext4 -O ^has_journal,^resize_inode -m 0 -N \"$inodes\" -L agentvm-layer -d . {0} \"$size\"k\n"
      "stat -c %s {0}\n",
      layer_image);
  return text;
}

std::string system_script(const AgentDefinition& agent) {
  std::string text = "set -eu\n";
  if (agent.has_layer())
    text += fmt::format(
        "device=\n"
        "for disk in /sys/block/vd*; do\n"
        "  if [ \"$(cat \"$disk/serial\" 2>/dev/null)\" = {serial} ]; then device=/dev/${{disk##*/}}; fi\n"
        "done\n"
        "if [ -z \"$device\" ]; then echo 'its disk is not there' >&2; exit 1; fi\n"
        "mkdir -p {folder}\n"
        "mountpoint -q {folder} || mount -t ext4 -o ro,nosuid,nodev \"$device\" {folder}\n",
        fmt::arg("serial", layer_serial(layer_key(agent))), fmt::arg("folder", shell_word(layer_folder(agent.name))));
  text += write_lines("/usr/local/bin/" + agent.name, wrapper(agent), "755");
  text += fmt::format("mkdir -p /{0} {1}\nchown agent:agent /{0} {1}\nchmod 700 {1}\n", session_notes_folder,
                      credentials_folder);
  return text + write_lines(session_program, session_text(), "755") + write_lines(says_program, says_text(), "755");
}

std::vector<std::string> bell_words(const std::string& session) {
  // What it printed, or that it failed, tmux would show over the program's screen.
  const auto command =
      fmt::format("run-shell -b 'AGENTVM_SESSION={} {} bell >/dev/null 2>&1 || :'", session, says_program);
  return {";", "set-hook", "-t", "=" + session + ":", "alert-bell", command};
}

std::string variables_script(const std::map<std::string, std::string>& variables) {
  std::string content;
  for (const auto& [name, value] : variables) content += fmt::format("export {}={}\n", name, shell_word(value));
  return fmt::format(
      "set -eu\numask 077\nmkdir -p /run/agentvm\nchmod 755 /run/agentvm\nprintf %s {0} >{1}.new\n"
      "chown agent:agent {1}.new\nmv {1}.new {1}\n",
      shell_word(content), variables_file);
}

std::string home_script(const AgentDefinition& agent) {
  std::string text = "set -eu\numask 077\ncd\n";
  for (const auto& file : agent.files)
    text += fmt::format("if [ ! -e {0} ]; then\n{1}fi\n", shell_word(file.path),
                        write_lines("./" + file.path, file.content, "600"));
  return text;
}

std::string credentials_script(const AgentDefinition& agent, const std::vector<AgentFile>& lent) {
  std::string text = "set -eu\numask 077\ncd\n";
  for (const auto& path : agent.credentials)
    text += fmt::format("case $(readlink {0} || :) in {1}/*) rm {0} ;; esac\n", shell_word("./" + path),
                        credentials_folder);
  for (const auto& file : lent) {
    const auto here = "./" + file.path;
    const auto there = fmt::format("{}/{}", credentials_folder, file.path);
    text += write_lines(there, file.content, "600");
    text += fmt::format("if [ ! -e {0} ]; then\nmkdir -p {1}\nln -s {2} {0}\nfi\n", shell_word(here),
                        shell_word(here.substr(0, here.rfind('/'))), shell_word(there));
  }
  return text;
}

std::vector<std::string> session_command(const AgentDefinition& agent, const std::string& session,
                                         const std::vector<std::string>& task) {
  std::vector<std::string> words = {session_program, session, agent.name};
  if (task.empty()) return words;
  words.insert(words.end(), agent.task.begin(), agent.task.end());
  std::string joined;
  for (const auto& word : task) joined += (joined.empty() ? "" : " ") + word;
  words.push_back(std::move(joined));
  return words;
}

std::vector<std::string> run_command(const AgentDefinition& agent, const std::string& task) {
  std::vector<std::string> words = {agent.name};
  words.insert(words.end(), agent.run.begin(), agent.run.end());
  words.push_back(task);
  return words;
}

}  // namespace agentvm::guest
