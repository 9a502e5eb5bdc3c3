#pragma once
// A snapshot of uncommitted guest work enters the user's work tree as uncommitted changes of theirs: all of it or
// nothing.

#include <cstdint>
#include <string>
#include <vector>

#include "sync/gate.hpp"
#include "sync/outcome.hpp"
#include "sync/wip.hpp"

namespace agentvm::sync {

struct ApplyRequest {
  fs::path repository;  ///< the user's work tree (any folder in it)
  WipEntry entry;
  fs::path scratch;  ///< a folder of ours for this repository and sandbox; created when missing
  GatePolicy gate;
  bool accept = false;  ///< the user takes what the gate showed them
};

struct ApplyOutcome {
  enum class Result { applied, up_to_date, gated, conflict } result = Result::applied;
  std::vector<std::string> files;  ///< that changed (or would): the first of them, guest text
  std::uint64_t files_changed = 0;
  std::vector<GatedPath> gated;
  std::uint64_t gated_count = 0;
  std::vector<std::string> conflicts;  ///< files that both sides changed, or that are in the way; guest text
  std::string reason;                  ///< why nothing was done, for people
  std::vector<std::string> commands;   ///< what helps

  /// 0 for applied and up-to-date, else 6.
  int exit_code() const;
};
std::string_view to_string(ApplyOutcome::Result result);

/// Merges what the snapshot changed against its base with the work tree as it is on disk, tried first beside the
/// repository. Where both sides changed the same, where something untracked is in the way, or where the gate wants the
/// user's word, nothing is touched. What is applied is not staged and not committed; the user's own changes, staged
/// ones included, stay. Throws `host_lacks` for a git before 2.38.
ApplyOutcome apply_wip(const ApplyRequest& request, Deadline deadline);

}  // namespace agentvm::sync
