#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

int doctor(Invocation& run) {
  const auto result = run.call("doctor", request_params());
  run.show(result, render_doctor(result, run.out.out_style()));
  return true_at(result, "ok") ? 0 : exit_code(ErrorCode::host_lacks);
}

}  // namespace

CommandSpec doctor_command() {
  return {.name = "doctor",
          .group = "Host and settings",
          .summary = "Check this host; each finding names the command that mends it",
          .description = "Status 4 when something found would stop a start.",
          .options = {json_option()},
          .run = doctor};
}

}  // namespace agentvm::cli
