#include "sync/gate_table.hpp"

#include <algorithm>

namespace agentvm::sync {
namespace {

struct Group {
  std::string_view kind;
  bool always;
  std::string_view names;  ///< separated by spaces
};

// Added to freely: a name too many costs the user one question, a name too few their host.
constexpr Group groups[] = {
    // Our own: they steer the next sandbox, or the gate itself.
    {"agentvm", true, "agentvm.yaml agentvm.yml .agentvm/"},
    // Agents that a person runs on the host, too, read these: hooks, commands, tool servers, orders.
    {"agent", true,
     ".claude/ claude.md claude.local.md agents.md agents.override.md gemini.md .gemini/ .codex/ .cursor/ "
     ".cursorrules .windsurf/ .windsurfrules .clinerules .roo/ .continue/ .aider.conf.yml .opencode/ "
     "opencode.json opencode.jsonc .mcp.json mcp.json .github/copilot-instructions.md"},
    // Run when one enters the folder.
    {"shell-environment", false,
     ".envrc .env .env.* .mise.toml mise.toml .mise/ .tool-versions .rtx.toml .autoenv .autoenv.zsh "
     "shell.nix default.nix flake.nix flake.lock devenv.nix devenv.yaml .devbox/ devbox.json"},
    // Tasks, settings and modelines that editors run.
    {"editor", false,
     ".vscode/ *.code-workspace .idea/ *.iml .fleet/ .zed/ .devcontainer/ .devcontainer.json "
     "devcontainer.json .exrc .vimrc .nvimrc .nvim.lua .nvim/ .vim/ .lvimrc .dir-locals.el "
     ".dir-locals-2.el .sublime-project *.sublime-project .project .classpath .settings/ .vs/ .kakrc "
     ".helix/ .lapce/ .theia/"},
    // Git itself, and what wraps it.
    {"git", false,
     ".gitattributes .gitmodules .gitconfig .githooks/ .git-hooks/ githooks/ .husky/ "
     ".pre-commit-config.yaml .pre-commit-hooks.yaml lefthook.yml lefthook.yaml .lefthook/ .lefthook.yml "
     ".overcommit.yml .lintstagedrc .lintstagedrc.* .huskyrc .huskyrc.* .lfsconfig .gitreview"},
    // Run by a CI service with its secrets.
    {"ci", false,
     ".github/ .gitlab-ci.yml .gitlab/ .circleci/ .travis.yml jenkinsfile *.jenkinsfile "
     "azure-pipelines.yml azure-pipelines.yaml .azure-pipelines/ .azuredevops/ bitbucket-pipelines.yml "
     ".drone.yml .drone.star .woodpecker/ .woodpecker.yml .buildkite/ .forgejo/ .gitea/ appveyor.yml "
     ".appveyor.yml .cirrus.yml .cirrus.star .ci/ .builds/ .build.yml .teamcity/ cloudbuild.yaml "
     "cloudbuild.yml .tekton/ buildspec.yml .semaphore/ codefresh.yml wercker.yml .sourcehut/ .hgtags"},
    // Scripts of package managers, run by an install.
    {"package-script", false,
     "package.json .npmrc .yarnrc .yarnrc.yml .yarn/ .pnpmfile.cjs pnpm-workspace.yaml bunfig.toml "
     "binding.gyp deno.json deno.jsonc .node-gyp/ setup.py setup.cfg pyproject.toml pipfile *.pth "
     "sitecustomize.py usercustomize.py conftest.py tox.ini noxfile.py hatch_build.py pixi.toml "
     "environment.yml uv.toml .python-version composer.json gemfile *.gemspec .bundle/ podfile *.podspec "
     "cartfile package.swift mix.exs rebar.config *.cabal setup.hs stack.yaml cabal.project *.opam dune "
     "dune-project pubspec.yaml cpanfile makefile.pl build.pl conanfile.py conanfile.txt vcpkg.json "
     "vcpkg-configuration.json renv.lock .rprofile .renviron"},
    // Where packages come from: another address is other code.
    {"dependencies", false,
     "package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb deno.lock "
     "cargo.lock poetry.lock uv.lock pdm.lock pipfile.lock requirements*.txt constraints*.txt "
     "gemfile.lock composer.lock go.mod go.sum go.work mix.lock package.resolved podfile.lock "
     "pubspec.lock gradle.lockfile conan.lock"},
    // Read and run by a build, a test runner or a linter.
    {"build-script", false,
     "makefile gnumakefile bsdmakefile makefile.am makefile.in makefile.inc *.mk *.mak *.make cmakelists.txt *.cmake "
     "cmakepresets.json cmakeuserpresets.json meson.build meson.options meson_options.txt build.ninja "
     "*.ninja configure configure.ac configure.in *.m4 autogen.sh bootstrap.sh *.am cargo.toml build.rs "
     ".cargo/ rust-toolchain rust-toolchain.toml clippy.toml build build.bazel workspace workspace.bazel "
     "workspace.bzlmod module.bazel *.bzl .bazelrc .bazeliskrc .bazelversion buck .buckconfig *.gradle "
     "*.gradle.kts gradlew gradlew.bat gradle/ gradle.properties buildsrc/ pom.xml .mvn/ mvnw mvnw.cmd "
     "build.xml ivy.xml build.sbt *.sbt project/*.scala build.sc build.mill .mill-opts .jvmopts .sbtopts "
     "rakefile *.rake guardfile capfile thorfile fastfile fastlane/ justfile .justfile *.just "
     "taskfile.yml taskfile.yaml taskfile.dist.* magefile.go magefiles/ earthfile vagrantfile dockerfile "
     "dockerfile.* *.dockerfile containerfile docker-compose*.yml docker-compose*.yaml compose.yml "
     "compose.yaml docker-bake.hcl tiltfile skaffold.yaml procfile sconstruct sconscript wscript waf "
     "premake*.lua xmake.lua tup.config tupfile *.ninja_deps *.csproj *.fsproj *.vbproj *.vcxproj *.sln "
     "*.props *.targets nuget.config global.json build.cake build.fsx paket.dependencies "
     "directory.build.rsp *.xcodeproj/ *.xcworkspace/ *.pbxproj *.qbs *.pro *.pri build.zig build.zig.zon "
     "project.clj deps.edn shadow-cljs.edn build.boot *.nimble nim.cfg config.nims *.rockspec dub.json "
     "dub.sdl shard.yml rebar3 elm.json spago.dhall bsconfig.json gruntfile.* gulpfile.* jakefile* "
     "*.config.js *.config.cjs *.config.mjs *.config.ts *.config.mts *.config.cts .eslintrc .eslintrc.* "
     ".prettierrc .prettierrc.* .stylelintrc .stylelintrc.* .babelrc .babelrc.* .swcrc .mocharc.* .nycrc "
     ".postcssrc .postcssrc.* karma.conf.* wdio.conf.* protractor.conf.* nx.json turbo.json lerna.json "
     "angular.json .parcelrc metro.config.* tsconfig*.json pytest.ini .pylintrc pylintrc mypy.ini "
     ".mypy.ini .flake8 .ruff.toml ruff.toml .coveragerc manage.py .rubocop.yml .rspec phpunit.xml "
     "phpunit.xml.dist .php-cs-fixer.php .golangci.yml .golangci.yaml .clang-tidy .clangd "
     "compile_commands.json compile_flags.txt .ccls .gdbinit .lldbinit gdbinit *-gdb.py .valgrindrc .ghci "
     ".ocamlinit .pryrc .irbrc .jupyter/ .ipython/ ansible.cfg terragrunt.hcl *.tf .terraform/ "
     "pulumi.yaml serverless.yml .screenrc .tmux.conf .inputrc .wgetrc .curlrc"},
    // Started by a click, or by being there.
    {"autostart", false, "*.desktop autorun.inf desktop.ini *.service *.timer *.lnk *.url *.command *.scf"},
};

std::vector<GateRule> parse() {
  std::vector<GateRule> rules;
  for (const auto& group : groups)
    for (auto rest = group.names; !rest.empty();) {
      const auto end = std::min(rest.find(' '), rest.size());
      rules.push_back({rest.substr(0, end), group.kind, group.always});
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  return rules;
}

}  // namespace

const std::vector<GateRule>& gate_rules() {
  static const auto rules = parse();
  return rules;
}

}  // namespace agentvm::sync
