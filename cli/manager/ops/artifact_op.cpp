#include "cli/manager/ops/artifact_op.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/pull.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "sync/artifacts/artifacts.hpp"
#include "vmm/base/text.hpp"
#include "vmm/config.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds artifact_limit{4 * 3600'000};
constexpr milliseconds install_limit{30'000};
constexpr std::size_t glob_limit = 256;

/// The sender inside: a copy of the agent's own program, where the guest's users can run it. Once per boot would do;
/// asking whether it is there costs as much as making it.
void install_sender(LiveSandbox& live, const std::string& path) {
  const auto control = live.control();
  if (!control) throw Error(ErrorCode::operation_failed, "the guest's agent does not answer", "agentvm status");
  const auto result =
      control->exec({.argv = {"/proc/self/exe", "install", path}, .cwd = "/"}, Deadline::after(install_limit), 1024);
  if (!result.ok())
    throw Error(ErrorCode::operation_failed,
                "the guest's agent cannot send build products: " + clean_guest_text(result.err, Newlines::escape, 300),
                "agentvm image build, then agentvm start --fresh");
}

Config artifact_config(Core& core, const SandboxRecord& record, const Json& params) {
  return core.project_config(record.project, value_or<std::map<std::string, std::string>>(params, "env", {}));
}

}  // namespace

Json bring_artifacts(Core& core, CallContext& call, const Json& params) {
  const auto [record, live] = running_sandbox(core, params);
  const auto deadline = Deadline::after(artifact_limit);
  const auto config = artifact_config(core, record, params);
  for (const auto& warning : config.warnings())
    if (warning.find("'artifacts.") != std::string::npos) call.warning(warning);
  sync::ArtifactRequest request;
  request.destination = record.project;
  if (const auto to = optional_text(params, "to")) {
    request.destination = *to;
    if (!request.destination.is_absolute()) throw Error(ErrorCode::usage, "--to: the folder is not absolute");
  }
  auto globs = value_or<std::vector<std::string>>(params, "globs", {});
  if (globs.empty()) globs = config.list("artifacts.paths");
  if (globs.empty() || globs.size() > glob_limit)
    throw Error(ErrorCode::usage, fmt::format("--artifacts takes 1 to {} paths", glob_limit), "agentvm help sync");
  for (const auto& glob : globs) request.globs.push_back(sync::artifact_glob(glob));
  request.limits = {config.size("artifacts.limits.bytes").bytes(), config.count("artifacts.limits.files")};
  request.gate = sync_settings(core, record, value_or<std::map<std::string, std::string>>(params, "env", {})).gate;
  request.forbidden = core.paths().state;
  request.libexec = core.paths().libexec;
  request.scratch = core.store().folder(record.name) / "sync";
  request.sandbox = record.name.str();
  request.accept = value_or<bool>(params, "accept", false);
  request.dry_run = value_or<bool>(params, "dry_run", false);
  install_sender(*live, request.guest_program);
  const auto session = live->session(Session::control, Deadline::after(let_in_limit));
  auto result = to_json(sync::fetch_artifacts(request, *session, call.progress_function(), call.cancelled(), deadline));
  result["name"] = record.name.str();
  return result;
}

}  // namespace agentvm::manager
