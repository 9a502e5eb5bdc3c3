#pragma once
// The public entry: what the agent committed comes home.

#include <optional>

#include "guest/streams.hpp"
#include "sync/gate.hpp"
#include "sync/loose_source.hpp"
#include "sync/outcome.hpp"
#include "vmm/base/names.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm::sync {

enum class Move {
  by_branch_rule,   ///< the checked-out branch follows where the rule allows it
  references_only,  ///< only refs/agentvm/<sandbox>/* move: a rescue, not a delivery
};

struct SyncRequest {
  fs::path repository;  ///< the user's work tree (any folder in it)
  SandboxName sandbox;
  std::string guest_path = "/workspace";
  fs::path libexec;  ///< where agentvm-git is
  fs::path scratch;  ///< a folder of this sandbox alone, below our state; created when missing
  SyncLimits limits;
  Move move = Move::by_branch_rule;
  GatePolicy gate;
  bool accept = false;                ///< the user takes what the gate showed them
  bool listed = true;                 ///< a user sees the outcome; else an acceptance does not cover what is in it
  bool dry_run = false;               ///< fetch and judge, change nothing
  std::optional<std::string> branch;  ///< the guest branch to be about
  /// What the guest says that its references are, asked before this call; a hint that is compared and never trusted:
  /// equal to that of the last sync, the guest is not asked again and its branches are taken for where they were.
  /// Empty: unknown.
  std::string guest_state;
  /// Where a few new commits can be had without git in the guest.
  std::optional<LooseSource> loose;
  Clock* clock = &system_clock();
};

/// Fetches the guest's branches into a quarantine, judges them, lands them in refs/agentvm/<sandbox>/*, and
/// fast-forwards the user's branch when the branch rule allows it. Blocking; one at a time per `scratch` (a second one
/// waits for the first, until the deadline). A decision that is the user's (gated, dirty, diverged) is an outcome, not
/// an error. Throws `not_found` (no repository), `operation_failed` (refused, connection lost; the repository is as
/// before), `timed_out`.
SyncOutcome sync_now(const SyncRequest& request, guest::Streams& streams, const Progress& progress, Deadline deadline);

}  // namespace agentvm::sync
