#pragma once
// Copies files between two work trees by descriptor, never through a symbolic link, on either side.

#include <functional>
#include <string>

#include <sys/types.h>

#include "vmm/base/files.hpp"

namespace agentvm::sync {

class TreeCopier {
 public:
  /// Both folders exist.
  TreeCopier(const fs::path& from, const fs::path& to);
  /// Copies a regular file (content, exec bits) or symbolic link, replacing what is there; parents are made. False when
  /// the source is gone or is neither. Throws naming the file when it cannot be read.
  bool copy(const std::string& name);
  /// Removes a file or link in the target, then parents that became empty. A missing one is success.
  void remove(const std::string& name);

 private:
  UniqueFd from_, to_;
};

/// lchown for everything below and including `root`, never following a link.
void give_to(const fs::path& root, uid_t uid, gid_t gid);
/// Number of entries below `root` (itself not counted), links not followed.
std::uint64_t count_entries(const fs::path& root);

}  // namespace agentvm::sync
