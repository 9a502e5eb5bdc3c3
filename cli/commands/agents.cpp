#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

int list(Invocation& run) {
  const auto result = run.call("agents.list", request_params());
  run.show(result, render_agents(result, run.out.out_style(), run.out.width()));
  return 0;
}

}  // namespace

int build_agents(Invocation& run) {
  if (run.args.given("recipe") || run.args.given("layers"))
    throw Error(ErrorCode::usage,
                "--agents builds no image: agents are layers of their own, which --recipe and --layers do not change",
                "agentvm help image build");
  auto params = request_params();
  params["names"] = listed_names(run.args.text("agents"));
  if (params["names"].empty()) throw Error(ErrorCode::usage, "--agents: no name", "agentvm agents list");
  const auto result = run.call("agents.build", params);
  run.show(result, render_agents(result, run.out.out_style(), run.out.width()));
  return 0;
}

CommandSpec agents_command() {
  return {
      .name = "agents list",
      .group = "Images",
      .summary = "List the agent programs that a sandbox can start with",
      .description =
          "The built-in ones, and those of *.yaml files in the folder agents beside the configuration file. Each is "
          "installed once, when it is first asked for, into a layer that sandboxes see read-only; 'agentvm image "
          "build --agents' does so beforehand.",
      .options = {json_option()},
      .examples = {{"agentvm start --agent claude", "start with one of them"}},
      .run = list};
}

}  // namespace agentvm::cli
