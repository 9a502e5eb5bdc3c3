#pragma once
// Copies files between two work trees by descriptor, never through a symbolic link, on either side.

#include <cstdint>
#include <optional>
#include <string>

#include <sys/types.h>

#include "vmm/base/files.hpp"

namespace agentvm::sync {

class TreeCopier {
 public:
  /// Both folders exist.
  TreeCopier(const fs::path& from, const fs::path& to);
  TreeCopier(UniqueFd from, UniqueFd to) : from_(std::move(from)), to_(std::move(to)) {}
  /// Copies a regular file (content, exec bits) or symbolic link, replacing what is there; parents are made. False when
  /// the source is gone or is neither. Throws naming the file when it cannot be read.
  bool copy(const std::string& name);
  /// As `copy`, from one name to another, at most `limit_bytes` of content: the bytes copied. Nothing when the source
  /// is gone, is neither, or may not be read. Throws when it is longer.
  std::optional<std::uint64_t> copy_as(const std::string& from, const std::string& to, std::uint64_t limit_bytes);
  /// An empty file of that name in the target, replacing what is there.
  void place_empty(const std::string& name);
  /// Removes a file or link in the target, then parents that became empty. A missing one is success.
  void remove(const std::string& name);

 private:
  enum class Closed { is_error, is_absent };
  std::optional<std::uint64_t> transfer(const std::string& from, const std::string& to, std::uint64_t limit_bytes,
                                        Closed closed);

  UniqueFd from_, to_;
};

/// lchown for everything below and including `root`, never following a link.
void give_to(const fs::path& root, uid_t uid, gid_t gid);
/// Number of entries below `root` (itself not counted), links not followed.
std::uint64_t count_entries(const fs::path& root);

}  // namespace agentvm::sync
