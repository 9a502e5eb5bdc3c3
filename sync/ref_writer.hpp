#pragma once
// Writes our references (refs/agentvm/*) into the host's repository, so that a kill leaves no lock that cannot be told
// from one of the user's git. Locks are git's own (`<ref>.lock`, `packed-refs.lock`), so both respect each other; but
// ours are hard links of one file in .git/agentvm, which names them: what is the same inode as that file is ours, and
// because every writer holds a flock meanwhile, it is a dead one's. ADR 0008.

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sync/host_repository.hpp"
#include "vmm/base/file_lock.hpp"

namespace agentvm::sync {

/// One change of one reference. At most one of the two is empty.
struct RefEdit {
  std::string ref;      ///< full name, below refs/agentvm/
  std::string new_tip;  ///< empty: remove
  std::string old_tip;  ///< what it must be now; empty: must not exist
};

/// Holds the repository's writer lock for its lifetime. One thread.
class RefWriter {
 public:
  /// Waits for other writers, until `deadline`, then removes what killed ones left. `host` must outlive this.
  RefWriter(const HostRepository& host, const HostGit& git, Deadline deadline);

  /// All locks are taken and all old values compared before the first change; removals come before updates. Throws
  /// `operation_failed` and changes nothing when a value is another one, a name is in the way or a lock stays taken.
  /// Killed in the middle, each reference is as before or as after. No reflog is written and no hook runs. A name that
  /// makes room for others (a, for a/b) is removed by a call of its own before theirs.
  void apply(std::vector<RefEdit> edits);

 private:
  const HostRepository& host_;
  const HostGit& git_;
  Deadline deadline_;
  std::optional<FileLock> guard_;
};

/// Removes what killed writers left, if any did. Waits for living ones.
void recover_references(const HostRepository& host, Deadline deadline);

/// Pure: the text of a packed-refs file without `refs`; nothing when it has none of them.
std::optional<std::string> packed_without(const std::string& packed, const std::set<std::string>& refs);

}  // namespace agentvm::sync
