#pragma once
// The entries of a folder on a guest's disk, on their way from the process that reads it: hostile bytes.
//
//   entry   mode:octal ' ' uid ' ' gid ' ' size ' ' mtime '\0' name '\0' target '\0'
//
// Numbers are decimal but the mode; mtime is in seconds since 1970 and may be negative. `target` is empty but for
// symbolic links.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm {

struct ListedEntry {
  std::string name, target;  ///< the guest's bytes, without '\0': clean before showing
  unsigned mode = 0;         ///< as of stat(2), with the kind
  std::uint64_t uid = 0, gid = 0, size = 0;
  std::int64_t modified = 0;  ///< seconds since 1970
};

/// What a listing may have: a million short names.
inline constexpr std::size_t listing_limit_bytes = 64u << 20;

std::string format_listed(const ListedEntry& entry);
/// Throws `operation_failed` for what is no listing. A name may be any but empty, ".", ".." and one with '/'.
std::vector<ListedEntry> parse_listing(std::string_view bytes);

}  // namespace agentvm
