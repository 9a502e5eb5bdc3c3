#pragma once
// Files and folders of our own state. Every read has a cap, every replace is atomic.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/fd.hpp"

namespace agentvm {

namespace fs = std::filesystem;

/// The whole file; throws `not_found` when it is absent, `operation_failed` when it is larger than `limit_bytes`.
std::string read_file(const fs::path& path, std::size_t limit_bytes = 16u << 20);
/// Nothing when it is absent; other failures throw.
std::optional<std::string> read_file_if_exists(const fs::path& path, std::size_t limit_bytes = 16u << 20);
/// The last `limit_bytes` at most; empty when it is absent.
std::string read_tail(const fs::path& path, std::size_t limit_bytes);

/// Replaces `path` in one step: temporary in the same folder, fsync, rename, fsync of the folder. On error the old file
/// is untouched, except that a failing fsync of the folder (the last step) leaves the whole new one.
void write_file_atomic(const fs::path& path, std::string_view content, unsigned mode = 0600);

/// Creates missing parts with 0700. An existing last part must be a real directory (no symlink), owned by us and closed
/// to others; otherwise throws with the chmod/chown that mends it.
void ensure_private_dir(const fs::path& path);
/// Removes the tree below and including `path`, never following symlinks and never leaving its file system.
/// A missing path is success.
void remove_tree(const fs::path& path);
/// fsync on a folder, so that a rename in it survives a crash.
void sync_dir(const fs::path& path);

UniqueFd open_file(const fs::path& path, int flags, unsigned mode = 0600);
std::uint64_t free_bytes(const fs::path& path);
/// `count_bytes` random bytes from the kernel, as lower-case hex.
std::string random_hex(std::size_t count_bytes);

}  // namespace agentvm
