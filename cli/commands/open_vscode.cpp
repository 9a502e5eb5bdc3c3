// An editor of the host on the guest's files, over the host's own ssh.

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/client/invocation.hpp"
#include "cli/client/terminal.hpp"
#include "cli/commands/commands.hpp"
#include "cli/commands/process.hpp"
#include "cli/render/table.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::cli {
namespace {

constexpr milliseconds ssh_limit{10'000};
// They share one command line. The first that is installed counts.
constexpr const char* editors[] = {"code", "code-insiders", "codium", "cursor", "windsurf"};

std::string find_editor(Invocation& run) {
  if (run.args.given("editor")) {
    const auto asked = run.args.text("editor");
    const auto found = asked.find('/') != asked.npos ? asked : find_program(asked);
    if (found.empty() || ::access(found.c_str(), X_OK) != 0)
      throw Error(ErrorCode::host_lacks, fmt::format("the editor '{}' is not installed", clean(asked)),
                  "agentvm help open-vscode");
    return found;
  }
  for (const auto* each : editors)
    if (auto found = find_program(each); !found.empty()) return found;
  throw Error(ErrorCode::host_lacks,
              "no editor with Remote-SSH is installed (looked for code, codium, cursor, windsurf)",
              "agentvm open-vscode --editor PROGRAM, or agentvm ssh");
}

/// Whether the user's own ssh, as an editor calls it, comes to this guest: the port and the key are what it must have.
bool known_to_ssh(const Json& stanza) {
  const auto program = find_program("ssh");
  if (program.empty())
    throw Error(ErrorCode::host_lacks, "the program 'ssh' is not installed, and editors connect with it",
                "apt install openssh-client");
  const auto result =
      agentvm::run({.argv = {program, "-G", require<std::string>(stanza, "host_alias")}}, Deadline::after(ssh_limit));
  bool port = false, key = false;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) {
    port = port || line == fmt::format("port {}", number_at(stanza, "port"));
    key = key || line == "identityfile " + require<std::string>(stanza, "identity_file");
  }
  return port && key;
}

/// `file` and the folders of links to it are the user's: a link stays one, and the mode stays as it is.
void put_first(const fs::path& file, const std::string& line) {
  std::error_code absent;
  const auto target = fs::exists(file, absent) ? fs::canonical(file) : file;
  const auto folder = target.parent_path();
  if (::mkdir(folder.c_str(), 0700) < 0 && errno != EEXIST) throw_errno("creating " + folder.string());
  struct stat status {};
  const unsigned mode = ::stat(target.c_str(), &status) == 0 ? status.st_mode & 0777u : 0600u;
  write_file_atomic(target, line + "\n\n" + read_file_if_exists(target).value_or(""), mode);
}

/// An Include, because a stanza would be of today's port: the file that it names is written anew whenever it is asked
/// for. It must come first: what follows a Host line belongs to that.
void teach_ssh(Invocation& run, const Json& stanza) {
  const char* home = std::getenv("HOME");
  if (!home || !*home) throw Error(ErrorCode::usage, "HOME is not set", "agentvm ssh-config");
  const auto file = fs::path(home) / ".ssh" / "config";
  const auto files =
      fs::path(require<std::string>(stanza, "config_file")).parent_path().parent_path() / "*" / "ssh_config";
  const auto line = fmt::format("Include \"{}\"", files.string());
  if (!run.args.enabled("write-ssh-config")) {
    const auto question =
        fmt::format("Editors connect as your ssh does. Put '{}' at the top of {}?", line, file.string());
    if (!on_terminal())
      throw Error(ErrorCode::decision_needed,
                  fmt::format("your ssh does not know {} yet: its configuration needs the line {}",
                              require<std::string>(stanza, "host_alias"), line),
                  "agentvm open-vscode --write-ssh-config");
    if (!ask(run.out, question)) throw Error(ErrorCode::cancelled, "ssh's configuration stays as it is");
  }
  put_first(file, line);
  run.out.say("added to " + file.string());
  if (!known_to_ssh(stanza))
    throw Error(ErrorCode::operation_failed,
                fmt::format("ssh still does not come to {}: something else in {} decides about it",
                            require<std::string>(stanza, "host_alias"), file.string()),
                "ssh -G " + require<std::string>(stanza, "host_alias"));
}

int open_vscode(Invocation& run) {
  const auto editor = find_editor(run);
  const auto params = run.params();
  const auto stanza = with_autostart(run, params, [&] { return run.call("ssh-config", params); });
  if (!known_to_ssh(stanza)) teach_ssh(run, stanza);
  hand_over(run, {editor, "--remote", "ssh-remote+" + require<std::string>(stanza, "host_alias"), "/workspace"});
}

}  // namespace

CommandSpec open_vscode_command() {
  return {
      .name = "open-vscode",
      .group = "Everyday",
      .summary = "Open the workspace in an editor with Remote-SSH",
      .description =
          "Starts VS Code, or another editor that takes the same options, on the guest's /workspace. It connects "
          "with your own ssh, whose configuration must include the sandboxes': on a terminal it asks before it adds "
          "that line to ~/.ssh/config, once for all sandboxes.",
      .arguments = {sandbox_argument()},
      .options = {{.name = "editor",
                   .value = "PROGRAM",
                   .help = "The editor; default: the first of code, codium, cursor"},
                  {.name = "write-ssh-config", .help = "Add the line to ~/.ssh/config without asking"}},
      .examples = {{"agentvm open-vscode", "the sandbox of this project"}},
      .run = open_vscode};
}

}  // namespace agentvm::cli
