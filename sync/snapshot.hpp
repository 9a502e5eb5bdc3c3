#pragma once
// Uncommitted guest work comes home: a commit per work tree, made by the guest's own git beside its repository, fetched
// through the quarantine like everything else, and named below refs/agentvm/<sandbox>/wip/. ADR 0006.

#include <string>
#include <vector>

#include "guest/streams.hpp"
#include "sync/guest_work.hpp"
#include "sync/host_repository.hpp"
#include "sync/limits.hpp"
#include "sync/wip_name.hpp"
#include "vmm/base/names.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm::sync {

struct SnapshotRequest {
  fs::path repository;  ///< the user's work tree (any folder in it)
  SandboxName sandbox;
  fs::path libexec;  ///< where agentvm-git is
  fs::path scratch;  ///< a folder of these alone, in a folder that exists; made when missing
  WipKind kind = WipKind::kept;
  SyncLimits limits;
  std::string guest_path = "/workspace";
  std::string guest_store = "/var/tmp/agentvm-wip";  ///< a folder of ours in the guest, replaced
  Clock* clock = &system_clock();
};

/// So many moments of the timer are kept.
inline constexpr std::size_t timer_times_limit = 20;

struct SnapshotOutcome {
  std::vector<std::string> refs;         ///< made, or found to hold the same already: where the work is
  std::size_t made = 0;                  ///< so many of them are new
  std::vector<GuestWorktree> worktrees;  ///< as seen on the way, the clone itself first
  std::vector<std::string> warnings;     ///< what could not be collected; clean text
};

/// What is uncommitted in the guest (staged, changed, untracked but not ignored; in every work tree) is on the host
/// when this returns, and its references name it. The same state upon the same commit is kept once: a snapshot of the
/// timer becomes a kept one where one is asked for. Nothing in the guest changes but `guest_store`. With `timer`, older
/// snapshots of the timer make room. Blocking; one at a time per `scratch` (others wait, until the deadline). Throws as
/// `sync_now` does; nothing was changed then.
SnapshotOutcome take_snapshots(const SnapshotRequest& request, guest::Streams& streams, const Progress& progress,
                               Deadline deadline);

}  // namespace agentvm::sync
