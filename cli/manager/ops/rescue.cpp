#include "cli/manager/ops/rescue.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/pull.hpp"
#include "cli/manager/ops/worktrees.hpp"
#include "sync/sync.hpp"
#include "vmm/base/log.hpp"
#include "vmm/config.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds timed_limit{120'000};
constexpr milliseconds rescue_limit{5 * 60'000};

std::shared_ptr<guest::Streams> control_session(Core& core, const SandboxRecord& record, Deadline deadline) {
  const auto live = core.live(record.name);
  if (!live)
    throw Error(ErrorCode::wrong_state, record.name.str() + " is not running",
                "agentvm start " + record.project.string());
  return live->session(Session::control, Deadline::after(let_in_limit).sooner(deadline));
}

/// A configuration that cannot be read must not keep work from being saved.
sync::SyncLimits limits_of(Core& core, const SandboxRecord& record) {
  try {
    return sync_settings(core, record).limits;
  } catch (const Error& error) {
    log::warn("rescue", "{}: the limits of syncs are the built-in ones: {}", record.name.str(), error.what());
    return {};
  }
}

unsigned interval_of(Core& core, const SandboxRecord& record) {
  try {
    return core.project_config(record.project).count("wip.interval_seconds");
  } catch (const Error&) {
    return resolve_config({}).count("wip.interval_seconds");  // whoever asks for something else is told what is wrong
  }
}

}  // namespace

sync::SnapshotOutcome snapshot_work(Core& core, const SandboxRecord& record, sync::WipKind kind, Deadline deadline) {
  const auto session = control_session(core, record, deadline);
  sync::SnapshotRequest request{.repository = record.project,
                                .sandbox = record.name,
                                .libexec = core.paths().libexec,
                                .scratch = core.store().folder(record.name) / "wip",
                                .kind = kind,
                                .limits = limits_of(core, record)};
  auto outcome = sync::take_snapshots(request, *session, no_progress(), deadline);
  remember_worktrees(core, record, outcome.worktrees);
  if (outcome.made > 0) log::info("rescue", "{}: {} snapshots of uncommitted work", record.name.str(), outcome.made);
  return outcome;
}

Rescued rescue_work(Core& core, const SandboxRecord& record, Deadline deadline) {
  auto snapshots = snapshot_work(core, record, sync::WipKind::kept, deadline);
  Rescued rescued{std::move(snapshots.refs), std::move(snapshots.warnings)};
  sync::SyncRequest request{.repository = record.project,
                            .sandbox = record.name,
                            .libexec = core.paths().libexec,
                            .scratch = core.store().folder(record.name) / "sync"};
  request.limits = limits_of(core, record);
  request.move = sync::Move::references_only;
  const auto outcome = sync::sync_now(request, *control_session(core, record, deadline), no_progress(), deadline);
  for (const auto& change : outcome.refs) rescued.refs.push_back(change.ref);
  log::info("rescue", "{}: {} references", record.name.str(), rescued.refs.size());
  return rescued;
}

void mark_unsaved(Core& core, const SandboxName& name, bool unsaved) {
  core.store().update(name, [unsaved](SandboxRecord& r) { r.unsaved = unsaved; });
}

Rescued rescue(Core& core, CallContext& call, const SandboxRecord& record, Rescue how) {
  report(call.progress_function(), "rescue", "bringing work home that is only in the guest");
  try {
    auto rescued = rescue_work(core, record, Deadline::after(rescue_limit));
    if (how == Rescue::required && !rescued.warnings.empty())
      throw Error(ErrorCode::operation_failed, rescued.warnings.front());
    for (const auto& warning : rescued.warnings) call.warning(warning);
    return rescued;
  } catch (Error& error) {
    if (how == Rescue::required) {
      error.while_doing("rescuing the work of " + record.name.str());
      error.with_hint(
          fmt::format("agentvm stop {0} --force, then agentvm destroy {0}: it reads the workspace without the guest",
                      record.name.str()));
      throw;
    }
    const auto warning =
        fmt::format("work in the guest could not be copied to the host ({}); it stays in the sandbox", error.what());
    call.warning(warning);
    return {{}, {warning}};
  }
}

WipTimer::Work timed_snapshots(Core& core) {
  WipTimer::Work work;
  work.due_list = [&core] {
    std::vector<std::pair<SandboxName, unsigned>> running;
    for (const auto& record : core.store().list().records)
      if (record.state == SandboxState::running && core.live(record.name))
        running.emplace_back(record.name, interval_of(core, record));
    return running;
  };
  work.snapshot = [&core](const SandboxName& name) {
    const auto record = core.store().find(name);
    if (!record || record->state != SandboxState::running) return;
    const auto outcome = snapshot_work(core, *record, sync::WipKind::timer, Deadline::after(timed_limit));
    for (const auto& warning : outcome.warnings) log::info("wip", "{}: {}", name.str(), warning);
  };
  return work;
}

}  // namespace agentvm::manager
