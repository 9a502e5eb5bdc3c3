#include <cerrno>

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/commands/process.hpp"
#include "cli/render/table.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::cli {
namespace {

int ssh(Invocation& run) {
  const auto params = run.params();
  const auto answer = with_autostart(run, params, [&] { return run.call("ssh-config", params); });
  const auto program = find_program("ssh");
  if (program.empty())
    throw Error(ErrorCode::host_lacks, "the program 'ssh' is not installed; agentvm's own connection works without it",
                "agentvm exec -- CMD");
  // The manager keeps the stanza in the sandbox's folder, so that nothing has to be cleaned up after us.
  std::vector<std::string> words = {program, "-F", require<std::string>(answer, "config_file"),
                                    require<std::string>(answer, "host_alias")};
  words.insert(words.end(), run.args.trailing.begin(), run.args.trailing.end());
  hand_over(run, std::move(words));
}

int ssh_config(Invocation& run) {
  const auto answer = run.call("ssh-config", run.params());
  run.show(answer, require<std::string>(answer, "stanza"));
  return 0;
}

}  // namespace

CommandSpec ssh_command() {
  return {.name = "ssh",
          .group = "Everyday",
          .summary = "Log in with the system's ssh",
          .description =
              "Hands over to OpenSSH with the sandbox's key and its pinned host key. The status is ssh's own; "
              "failures before that are 125.",
          .arguments = {sandbox_argument()},
          .trailing = {"ARGS", false},
          .examples = {{"agentvm ssh -- -L 8080:127.0.0.1:80", "with options of ssh"}},
          .failures = Failures::guest_status,
          .run = ssh};
}

CommandSpec ssh_config_command() {
  return {.name = "ssh-config",
          .group = "Everyday",
          .summary = "Print a stanza for ~/.ssh/config",
          .arguments = {sandbox_argument()},
          .options = {json_option()},
          .examples = {{"agentvm ssh-config >>~/.ssh/config", "for editors and other programs"}},
          .run = ssh_config};
}

}  // namespace agentvm::cli
