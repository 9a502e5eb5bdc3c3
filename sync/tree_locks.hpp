#pragma once
// Lock files of git that keep a work tree from moving, and whether a git is there that holds them.

#include <optional>

#include "sync/host_repository.hpp"

namespace agentvm::sync {

struct TreeLock {
  fs::path path;
  std::string holder;  ///< "git commit (process 123)": a git at work there; empty: none that can be seen
};

/// The first lock that moving the work tree, on `branch`, would meet; one that goes away within two seconds is none.
/// A git counts as at work there by its folder, its words, or an open descriptor of the lock. One on another machine or
/// in a container cannot be seen, which is why no lock is ever removed on this word.
std::optional<TreeLock> lock_in_the_way(const HostRepository& host, const std::string& branch, Deadline deadline);

}  // namespace agentvm::sync
