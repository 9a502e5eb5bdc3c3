#pragma once
// Questions about, and the one change to, the user's work tree.

#include <optional>

#include "sync/host_repository.hpp"
#include "sync/outcome.hpp"

namespace agentvm::sync {

/// No staged and no unstaged change of a tracked file; submodules are not looked into.
bool tracked_files_are_clean(const HostGit& git, Deadline deadline);

/// Files and folders on disk, untracked or ignored, where the commits from `old_tip` (empty: nothing) to `new_tip` add
/// something. At most 100.
std::vector<std::string> untracked_in_the_way(const HostGit& git, const fs::path& worktree, const std::string& old_tip,
                                              const std::string& new_tip, Deadline deadline);

struct RangeSize {
  std::uint64_t commits = 0, files_changed = 0, insertions = 0, deletions = 0;
};
/// `old_tip` may be empty: the whole history.
RangeSize range_size(const HostGit& git, const std::string& old_tip, const std::string& new_tip, Deadline deadline);
/// Newest first, at most 20. The subjects are guest text.
std::vector<CommitLine> range_log(const HostGit& git, const std::string& old_tip, const std::string& new_tip,
                                  Deadline deadline);

struct Refusal {
  std::string reason;
  std::vector<std::string> paths;
};
/// Fast-forwards the checked-out branch and the work tree to `new_tip`; verified afterwards. Nothing moved when a
/// refusal comes back.
std::optional<Refusal> fast_forward(const HostGit& git, const HostRepository& host, const std::string& new_tip,
                                    Deadline deadline);

}  // namespace agentvm::sync
