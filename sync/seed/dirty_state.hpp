#pragma once
// The user's uncommitted state, read without touching their repository and laid over a fresh clone.

#include "sync/host_repository.hpp"
#include "sync/workspace.hpp"

namespace agentvm::sync {

/// Reads through a private copy of the index and a private object folder below `work_dir` (both made here).
class DirtyState {
 public:
  DirtyState(const HostRepository& host, const fs::path& work_dir, std::vector<std::string>& warnings,
             Deadline deadline);

  /// The staged tree.
  const std::string& tree() const { return tree_; }
  const DirtyCounts& counts() const { return counts_; }
  /// Brings the staged tree's objects into `clone` (a thin pack against HEAD).
  void send_objects(const HostGit& clone) const;
  /// Lays unstaged and untracked changes over the clone's work tree, which holds the staged tree.
  void apply(const HostGit& clone);

 private:
  void copy_index();
  void settle_unmerged();
  void read_changes();

  const HostRepository& host_;
  fs::path work_;
  std::vector<std::string>& warnings_;
  Deadline deadline_;
  HostGit git_;
  std::string tree_;
  DirtyCounts counts_;
  std::vector<std::string> written_, deleted_, untracked_, intended_;
};

}  // namespace agentvm::sync
