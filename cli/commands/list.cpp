#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

int list(Invocation& run) {
  auto params = request_params();
  if (run.args.given("state")) params["state"] = run.args.text("state");
  const auto result = run.call("list", params);
  run.show(result, render_list(result, run.out.out_style(), run.out.width()));
  if (!run.out.json() && list_at(result, "sandboxes").empty())
    run.out.say("no sandbox" +
                (run.args.given("state") ? " is " + run.args.text("state") : std::string(" yet: agentvm start")));
  return 0;
}

}  // namespace

CommandSpec list_command() {
  return {.name = "list",
          .aliases = {"ls", "ps"},
          .group = "Everyday",
          .summary = "List the sandboxes",
          .options = {{.name = "state",
                       .value = "STATE",
                       .help = "Only those in this state",
                       .choices = {"defined", "preparing", "starting", "running", "paused", "saved", "stopping",
                                   "stopped", "failed", "destroying"}},
                      json_option()},
          .run = list};
}

}  // namespace agentvm::cli
