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
/// Commits from `old_tip` (empty: the whole history) to `new_tip`.
std::uint64_t range_commits(const HostGit& git, const std::string& old_tip, const std::string& new_tip,
                            Deadline deadline);
/// Commits of `tip` that none of `others` leads to.
std::uint64_t commits_without(const HostGit& git, const std::string& tip, const std::vector<std::string>& others,
                              Deadline deadline);
/// The files alone: since `base`, the common ancestor (empty: none), what the guest did, not what the host did
/// meanwhile.
RangeSize range_files(const HostGit& git, const std::string& base, const std::string& new_tip, Deadline deadline);
inline constexpr std::size_t logged_commits_limit = 20;
/// Newest first, at most `logged_commits_limit`. The subjects are guest text.
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

/// Checks out `branch` at `new_tip`: made where it does not exist (`old_tip` empty), else moved there from `old_tip`,
/// by fast-forward. No uncommitted work is touched; when a refusal comes back the user is on the branch of before.
std::optional<Refusal> follow_branch(const HostGit& git, const HostRepository& host, const std::string& branch,
                                     const std::string& old_tip, const std::string& new_tip, Deadline deadline);

/// Where else a local branch is checked out than in the work tree that `git` runs in; empty: nowhere.
std::string checked_out_elsewhere(const HostGit& git, const std::string& branch, Deadline deadline);

}  // namespace agentvm::sync
