#include "cli/manager/ops/stop_op.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/machine_limits.hpp"
#include "cli/manager/ops/recordings.hpp"
#include "cli/manager/ops/rescue.hpp"
#include "cli/manager/ops/salvage.hpp"
#include "cli/manager/ops/saved_state.hpp"
#include "cli/manager/ops/status.hpp"
#include "cli/manager/ops/suspend.hpp"
#include "cli/manager/ops/sync_op.hpp"
#include "cli/manager/ops/teardown.hpp"
#include "cli/manager/ops/terminals.hpp"
#include "cli/manager/ops/wip_ops.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds hold_limit{20'000};
constexpr milliseconds teardown_limit{120'000};
constexpr milliseconds keep_limit{30'000};
constexpr milliseconds force_limit{2'000};  // for a guest whose user has no patience with it

}  // namespace

Json stop_sandbox(Core& core, CallContext& call, const Json& params) {
  auto record = core.resolve(params);
  const bool force = value_or<bool>(params, "force", false);
  const milliseconds grace(1000 * value_or<long long>(params, "timeout_seconds", 30));
  const SyncWatch::Quiet quiet(core.syncs(), record.name);
  const auto hold = core.hold(record.name, Deadline::after(hold_limit));
  record = core.store().get(record.name);
  if (record.state == SandboxState::saved) {
    core.apply(record.name, SandboxEvent::stop, "user", "", [](SandboxRecord& r) { r.saved = false; });
    sweep_saved(core, core.store().get(record.name));
    call.warning(fmt::format("what ran in '{}' when it was saved is dropped; its disk stays", record.name.str()));
    auto status = sandbox_status(core, core.store().get(record.name), Detail::brief);
    status["rescued"] = Json::array();
    return status;
  }
  const bool frozen = !record.frozen.empty();
  const bool stays = frozen || must_stay_paused(core, record);  // its work is read from its files, later
  if (!force && !stays) record = wake(core, record);            // to be asked for its work, and to power off
  const bool running = record.state == SandboxState::running;
  const bool asked = running && !force && !frozen;
  Rescued rescued;
  if (stays)
    call.warning(
        fmt::format("{}, so the guest is not let go on: its work stays in its files until it is started again "
                    "or destroyed",
                    frozen ? "it is frozen" : "the host's disk is short"));
  if (running && !frozen && value_or<bool>(params, "sync", false)) {
    auto sync_params = params;
    sync_params["name"] = record.name.str();
    const auto outcome = sync_held(core, call, sync_params);
    const auto result = require<std::string>(outcome, "result");
    if (result != "updated" && result != "up-to-date")
      call.warning("sync: " + result + "; the commits are in refs/agentvm/" + record.name.str());
  }
  if (asked) {
    rescued = rescue(core, call, record, Rescue::best_effort);
    keep_agent_logs(core, record);
    keep_recordings(core, record);
  }
  const bool saved = asked && rescued.warnings.empty();
  core.apply(record.name, SandboxEvent::stop, "user", "", [saved](SandboxRecord& r) {
    if (saved) r.unsaved = false;
  });
  report(call.progress_function(), "stop", "stopping " + record.name.str());
  if (running && force && !frozen) write_back(core, record.name, Deadline::after(force_limit));
  try {
    tear_down(core, record.name, force || stays ? Shutdown::forced : Shutdown::graceful, grace,
              Deadline::after(teardown_limit + grace));
  } catch (const Error& error) {
    core.apply(record.name, SandboxEvent::failed, "stop-failed", error.what());
    throw;
  }
  record = core.apply(record.name, SandboxEvent::ended, "user");
  auto status = sandbox_status(core, record, Detail::brief);
  status["rescued"] = rescued.refs;
  if (record.persist) return status;
  if (remove_stopped(core, call, record, rescued.refs)) status["state"] = "destroyed";
  status["rescued"] = rescued.refs;
  return status;
}

bool remove_stopped(Core& core, CallContext& call, const SandboxRecord& record, std::vector<std::string>& rescued) {
  if (record.unsaved) try {  // it was not asked, or did not answer
      auto salvaged = salvage(core, call, record);
      for (auto& ref : salvaged.refs) rescued.push_back(std::move(ref));
      if (!salvaged.whole) throw Error(ErrorCode::operation_failed, "a part of it is in its workspace alone");
    } catch (const Error& error) {
      call.warning(fmt::format("'{}' is not removed (persist: false), because its work could not be brought home: {}",
                               record.name.str(), error.what()));
      return false;
    }
  erase(core, record.name, Deadline::after(teardown_limit));
  return true;
}

Json destroy_sandbox(Core& core, CallContext& call, const Json& params) {
  auto record = core.resolve(params);
  const SyncWatch::Quiet quiet(core.syncs(), record.name);
  const auto hold = core.hold(record.name, Deadline::after(hold_limit));
  record = core.store().get(record.name);
  Rescued rescued;
  if (record.frozen.empty() && !must_stay_paused(core, record)) record = wake(core, record);
  const bool running = record.state == SandboxState::running && record.frozen.empty();
  if (running) rescued = rescue(core, call, record, Rescue::required);
  const auto saved = [running](SandboxRecord& r) {
    if (running) r.unsaved = false;
  };
  const bool keep = value_or<bool>(params, "keep_disk", false);
  if (running && keep) write_back(core, record.name, Deadline::after(keep_limit));
  report(call.progress_function(), "destroy", "removing " + record.name.str());
  std::optional<fs::path> kept_disk;
  // Before it is recorded as on its way out: a manager that comes after one that was killed removes what it finds so.
  if (keep || (!running && record.unsaved)) {
    const bool has_machine = record.state == SandboxState::running || record.state == SandboxState::paused;
    if (has_machine) core.apply(record.name, SandboxEvent::stop, "user", "", saved);
    tear_down(core, record.name, Shutdown::forced, milliseconds(0), Deadline::after(teardown_limit));
    if (has_machine) core.apply(record.name, SandboxEvent::ended, "user");
    if (!running && record.unsaved) {  // now that nothing writes there any more
      auto salvaged = salvage(core, call, record);
      rescued.refs = std::move(salvaged.refs);
      kept_disk = std::move(salvaged.kept_disk);
    }
    if (keep && !kept_disk) kept_disk = keep_disk(core, call, record);
  }
  core.apply(record.name, SandboxEvent::destroy, "user", "", saved);
  tear_down(core, record.name, Shutdown::forced, milliseconds(0), Deadline::after(teardown_limit));
  erase(core, record.name, Deadline::after(teardown_limit));
  return {{"schema", "agentvm.destroy/1"},
          {"name", record.name.str()},
          {"rescued", rescued.refs},
          {"kept_disk", kept_disk ? Json(kept_disk->string()) : Json(nullptr)},
          {"kept_wip", count_kept_wip(record)}};
}

}  // namespace agentvm::manager
