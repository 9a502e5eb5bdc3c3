#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/client/terminal.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

int destroy(Invocation& run) {
  auto params = run.params();
  if (!run.args.enabled("force")) {
    if (!on_terminal())
      throw Error(ErrorCode::usage, "destroy asks first, and this is no terminal",
                  fmt::format("agentvm destroy {} --force", *run.args.positional(0)));
    const auto losses = run.call("losses", params);
    for (const auto& line : render_losses(losses)) run.out.say(line);
    if (!ask(run.out, fmt::format("Destroy the sandbox '{}'?", text_at(losses, "name"))))
      throw Error(ErrorCode::cancelled, "nothing was destroyed");
  }
  params["force"] = run.args.enabled("force");
  params["keep_disk"] = run.args.enabled("keep-disk");
  const auto result = run.call("destroy", params);
  if (run.out.json()) {
    run.out.print_json(result);
  } else {
    for (const auto& ref : list_at(result, "rescued"))
      run.out.say("kept as " + (ref.is_string() ? clean(ref.get<std::string>()) : text_at(ref, "name")));
    if (const auto kept = number_at(result, "kept_wip"); kept > 0)
      run.out.say(fmt::format("{} of its uncommitted work stay{}: agentvm wip list {}", counted(kept, "snapshot"),
                              kept == 1 ? "s" : "", text_at(result, "name")));
    run.out.say(fmt::format("'{}' is destroyed", text_at(result, "name", clean(*run.args.positional(0)))));
  }
  return 0;
}

}  // namespace

CommandSpec destroy_command() {
  auto name = sandbox_argument();
  name.required = true;
  name.help = "The sandbox";
  return {
      .name = "destroy",
      .group = "Everyday",
      .summary = "Remove a sandbox for good",
      .description =
          "Says first what would be lost. Of a running sandbox commits that are not on the host and uncommitted "
          "work are kept first, below refs/agentvm/NAME/; of one that crashed or was stopped by force they are read "
          "from its workspace, and a workspace on the guest's disk is kept with the disk. Asks on a terminal; off a "
          "terminal it needs --force.",
      .arguments = {name},
      .options = {{.name = "force", .letter = 'f', .help = "Do not ask"},
                  {.name = "keep-disk", .help = "Leave the guest's disk on the host"},
                  json_option()},
      .run = destroy};
}

}  // namespace agentvm::cli
