#pragma once
// What a merge would meet, found out without touching the user's tree, index, objects or references.

#include <optional>

#include "sync/bare_trial.hpp"
#include "sync/host_repository.hpp"

namespace agentvm::sync {

/// Files that would conflict if the user's branch, with the uncommitted changes of tracked files, took `tip`; sorted,
/// at most 100. Nothing when it cannot be told: a merge is in progress, git is older than 2.38, or it takes too long.
/// Works in `folder` (made, not removed; inside a quarantine), which reads the objects of `object_dirs`. No merge
/// driver, filter of the guest's or hook runs; the user's own filters run on their own files, as in `git status`.
std::optional<std::vector<std::string>> forecast_merge(const HostRepository& host, const fs::path& quarantine_objects,
                                                       const fs::path& folder, const std::string& tip,
                                                       Deadline deadline);

/// The same for two commits, of a branch that is not checked out; `trial` borrows the objects of both.
std::optional<std::vector<std::string>> forecast_commits(const BareTrial& trial, const std::string& ours,
                                                         const std::string& theirs, Deadline deadline);

}  // namespace agentvm::sync
