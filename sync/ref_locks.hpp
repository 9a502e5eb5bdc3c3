#pragma once
// git's lock files, taken in a way that tells whose they are after a kill (see ref_writer.hpp).

#include <filesystem>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/file_lock.hpp"

namespace agentvm::sync {

namespace fs = std::filesystem;

/// .git/agentvm, made when missing, and the lock on it.
FileLock lock_writers(const fs::path& common_dir, Deadline deadline);

/// Removes the locks and drafts of a killed writer. The caller holds `lock_writers`.
void remove_dead_locks(const fs::path& common_dir);

/// A set of locks; the caller holds `lock_writers`. Released by the destructor.
class RefLocks {
 public:
  /// Writes down what will be locked: files below `common_dir` (relative), or absolute ones.
  RefLocks(const fs::path& common_dir, const std::vector<fs::path>& files);
  ~RefLocks();
  RefLocks(const RefLocks&) = delete;
  RefLocks& operator=(const RefLocks&) = delete;

  /// Takes all of them, in order. False where the file system has no hard links: nothing is taken then. Throws
  /// `operation_failed` when somebody else's lock stays, or a folder cannot be made.
  bool take(Deadline deadline);

  /// Writes `content` to a draft on the same file system, synced and as readable as the references are. Its path.
  fs::path draft(std::string_view content);

 private:
  void release() noexcept;

  fs::path common_dir_, journal_;
  std::vector<fs::path> locks_;
  std::size_t taken_ = 0;
  int drafts_ = 0;
};

/// Makes the folders of `file` (relative) below `common_dir`, as accessible as refs/ is.
void make_ref_folders(const fs::path& common_dir, const fs::path& file);

}  // namespace agentvm::sync
