#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

int status(Invocation& run) {
  const bool all = run.args.enabled("all"), verbose = run.args.enabled("verbose");
  if (all && run.args.positional(0))
    throw Error(ErrorCode::usage, "--all and NAME exclude each other", "agentvm help status");
  auto params = run.params();
  params["all"] = all;
  params["verbose"] = verbose;
  const auto result = run.call("status", params);
  run.show(result, all ? render_status_all(result, run.out.out_style(), verbose)
                       : render_status(result, run.out.out_style(), verbose));
  return 0;
}

}  // namespace

CommandSpec status_command() {
  return {.name = "status",
          .group = "Everyday",
          .summary = "Show a sandbox: state, machine, ssh, last sync",
          .arguments = {sandbox_argument()},
          .options = {{.name = "all", .letter = 'a', .help = "Every sandbox"},
                      {.name = "verbose", .letter = 'v', .help = "Everything that is known"},
                      json_option()},
          .run = status};
}

}  // namespace agentvm::cli
