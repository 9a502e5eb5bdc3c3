#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

int doctor(Invocation& run) {
  auto params = request_params();
  params["nested"] = run.args.enabled("nested");
  const auto result = run.call("doctor", params);
  run.show(result, render_doctor(result, run.out.out_style()));
  return true_at(result, "ok") ? 0 : exit_code(ErrorCode::host_lacks);
}

}  // namespace

CommandSpec doctor_command() {
  return {.name = "doctor",
          .group = "Host and settings",
          .summary = "Check this host; each finding names the command that mends it",
          .description = "Status 4 when something found would stop a start.",
          .options = {{.name = "nested", .help = "Start a guest and run a virtual machine in it, which takes a while"},
                      json_option()},
          .examples = {{"agentvm doctor --nested", "whether hypervisors can be built and run in a sandbox"}},
          .run = doctor};
}

}  // namespace agentvm::cli
