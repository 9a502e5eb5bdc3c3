#pragma once
// What is only in a guest, brought to the host before it could be lost. ADR 0006.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/ops/wip_timer.hpp"
#include "cli/manager/service.hpp"
#include "sync/snapshot.hpp"

namespace agentvm::manager {

struct Rescued {
  std::vector<std::string> refs;      ///< made, moved, or holding the same already
  std::vector<std::string> warnings;  ///< what could not be saved; clean text
};

/// Lands the guest's branches in refs/agentvm/<sandbox>/* of the project, and the uncommitted work of each work tree
/// (staged, changed, untracked but not ignored) as a commit in refs/agentvm/<sandbox>/wip/<time>. The user's branches
/// and work tree are not touched, nor the guest's repository.
/// Throws when the guest or the project cannot be reached.
Rescued rescue_work(Core& core, const SandboxRecord& record, Deadline deadline);

enum class Rescue {
  best_effort,  ///< the workspace stays
  required      ///< the workspace goes, too
};
/// As `rescue_work`, in a call: says what it does. Throws where it is `required` alone; else a failure is a warning.
Rescued rescue(Core& core, CallContext& call, const SandboxRecord& record, Rescue how);

/// Whether the sandbox may hold work that the host lacks: so from the first moment that a guest runs. That all of it
/// arrived is recorded together with the guest's end: a manager killed in between would leave one that works on.
void mark_unsaved(Core& core, const SandboxName& name, bool unsaved);

/// Uncommitted work alone; `timer` keeps a bounded number. Remembers the work trees that it meets.
sync::SnapshotOutcome snapshot_work(Core& core, const SandboxRecord& record, sync::WipKind kind, Deadline deadline);

/// What the timer does: every running sandbox at its project's `wip.interval_seconds`.
WipTimer::Work timed_snapshots(Core& core);

}  // namespace agentvm::manager
