#include "cli/manager/ops/pull.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/machine_limits.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "cli/manager/ops/suspend.hpp"
#include "vmm/base/text.hpp"
#include "vmm/config.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds fetch_limit{20 * 60'000};
constexpr milliseconds list_limit{60'000};
constexpr milliseconds hold_limit{20'000};

sync::RemoteRequest remote_request(Core& core, const SandboxRecord& record, const Json& params, const char* scratch) {
  sync::RemoteRequest request;
  request.libexec = core.paths().libexec;
  // A folder of its own: a sync sweeps what it finds in the one it has locked.
  request.scratch = core.store().folder(record.name) / scratch;
  const auto settings = sync_settings(core, record, value_or<std::map<std::string, std::string>>(params, "env", {}));
  request.limits = settings.limits;
  request.gate = settings.gate;
  return request;
}

Json branches_json(const sync::FetchVerdict& verdict) {
  auto branches = Json::array(), rejected = Json::array();
  for (const auto& [branch, tip] : verdict.branches) branches.push_back({{"branch", branch}, {"tip", tip}});
  for (const auto& ref : verdict.rejected)
    rejected.push_back({{"name", clean_guest_text(ref.name)}, {"reason", clean_guest_text(ref.reason)}});
  return {{"head_branch", verdict.head_branch},
          {"detached_head", verdict.detached_head},
          {"branches", branches},
          {"rejected", rejected}};
}

/// When git asks for the list, which it does before it fetches.
void wake_if_asked(Core& core, const Json& params) {
  if (!value_or<bool>(params, "wake", false)) return;
  const auto name = core.resolve(params).name;
  const auto hold = core.hold(name, Deadline::after(hold_limit));
  const auto record = core.store().get(name);
  if (must_stay_paused(core, record)) check_disk_reserve(core, "resuming " + name.str());
  wake(core, record);
}

}  // namespace

void refuse_guest_repository(const Paths& paths, const fs::path& git_dir) {
  if (git_dir.empty()) return;
  const auto real = fs::weakly_canonical(git_dir).string(), state = fs::weakly_canonical(paths.state).string();
  if (real == state || real.starts_with(state + "/"))
    throw Error(ErrorCode::operation_failed,
                fmt::format("{} belongs to agentvm and may be written by a guest; use a repository of your own",
                            git_dir.string()));
}

SyncSettings sync_settings(Core& core, const SandboxRecord& record,
                           const std::map<std::string, std::string>& environment) {
  const auto config = core.project_config(record.project, environment);
  SyncSettings settings;
  settings.gate = {config.list("sync.gate.allow"), config.list("sync.gate.deny"), {}};
  // A recipe inside the project decides what the next image is made of.
  if (const auto image = config.text("image"); image_is_recipe(image))
    settings.gate.always.push_back(
        "/" + (record.project / image).lexically_relative(record.project).lexically_normal().string());
  for (const auto& warning : config.warnings())
    if (warning.find("'sync.") != std::string::npos) settings.warnings.push_back(warning);
  auto& limits = settings.limits;
  limits.bytes = config.size("sync.limits.bytes").bytes();
  limits.objects = config.count("sync.limits.objects");
  limits.refs = config.count("sync.limits.refs");
  limits.memory = config.size("sync.limits.memory").bytes();
  limits.seconds = config.count("sync.limits.seconds");
  limits.expanded_bytes = limits.bytes * 8;
  limits.object_bytes = limits.bytes * 2;
  return settings;
}

Json answer_list(const SandboxWork& work, CallContext& call, guest::Streams& streams, Deadline deadline) {
  auto result = branches_json(sync::list_remote(work.request, streams, call.progress_function(), deadline));
  result["schema"] = "agentvm.remote-list/1";
  result["name"] = work.name;
  return result;
}

Json answer_fetch(const SandboxWork& work, const fs::path& git_dir, CallContext& call, guest::Streams& streams,
                  Deadline deadline) {
  const auto delivery = sync::deliver_remote(work.request, git_dir, streams, call.progress_function(), deadline);
  auto result = branches_json(delivery.verdict);
  result["schema"] = "agentvm.remote-fetch/1";
  result["name"] = work.name;
  result["gated"] = sync::gated_json(delivery.gated);
  result["all_judged"] = delivery.all_judged;
  result["keep"] = delivery.keep.string();
  result["objects"] = delivery.verdict.objects;
  return result;
}

fs::path target_repository(const Paths& paths, const Json& params) {
  const fs::path git_dir = require<std::string>(params, "git_dir");
  if (!git_dir.is_absolute()) throw Error(ErrorCode::usage, "the repository's folder is not absolute");
  refuse_guest_repository(paths, git_dir);
  return git_dir;
}

Json list_remote(Core& core, CallContext& call, const Json& params) {
  // Here already: git fetches nothing where it has all objects, and such a repository may have them.
  refuse_guest_repository(core.paths(), value_or<std::string>(params, "git_dir", ""));
  wake_if_asked(core, params);
  const auto [record, live] = running_sandbox(core, params);
  const auto deadline = Deadline::after(list_limit);
  const auto session = live->session(Session::control, deadline);
  return answer_list({record.name.str(), remote_request(core, record, params, "remote-list")}, call, *session,
                     deadline);
}

Json fetch_remote(Core& core, CallContext& call, const Json& params) {
  const auto [record, live] = running_sandbox(core, params);
  const auto git_dir = target_repository(core.paths(), params);
  const auto deadline = Deadline::after(fetch_limit);
  const auto session = live->session(Session::control, Deadline::after(let_in_limit));
  return answer_fetch({record.name.str(), remote_request(core, record, params, "remote-fetch")}, git_dir, call,
                      *session, deadline);
}

}  // namespace agentvm::manager
