#pragma once
// Whether the user's repository may have changed since a sync could not move its branch.

#include <memory>
#include <string>
#include <vector>

#include "sync/host_git.hpp"

namespace agentvm::sync {

/// What stat(2) says of the files that a git command on the user's side touches: HEAD, the index, the references it is
/// about, locks, and what an unfinished merge or rebase keeps. A hint: it may say "changed" where nothing is, and a
/// file that an editor has put back counts when it was named by `also_files`, else once git has looked at it. Not
/// thread-safe.
class HostMark {
 public:
  /// Of the work tree that `path` is in, as it is now; nothing where git knows of none.
  static std::unique_ptr<HostMark> take(const fs::path& path, Deadline deadline);

  /// From now on this branch counts, too; it is one of the user's or of the guest's.
  void also_branch(const std::string& branch);
  /// And the first 64 of these files, relative to the top of the work tree: guest text, so that one that leads out of
  /// it is passed over.
  void also_files(const std::vector<std::string>& files);
  /// The next `changed` says so: what was before is not known.
  void forget() { seen_.clear(); }
  /// Something differs from the last time (at first: from when it was taken). Runs nothing.
  bool changed();

 private:
  HostMark(fs::path worktree, const fs::path& git_dir, fs::path common_dir);
  std::string look() const;

  const fs::path worktree_, common_dir_;
  std::vector<fs::path> files_;
  std::string seen_;
};

}  // namespace agentvm::sync
