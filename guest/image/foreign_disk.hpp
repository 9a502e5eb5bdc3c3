#pragma once
// What somebody else's disk image is, told by its first bytes alone, before any program that knows formats opens it.

#include <cstdint>
#include <filesystem>
#include <string>

namespace agentvm {

struct ForeignDisk {
  enum class Format { raw, qcow2 } format = Format::raw;
  std::uint64_t size_bytes = 0;  ///< as a machine would see it
};
const char* to_string(ForeignDisk::Format format);

/// Reads the header, at most 64 KiB. Throws `operation_failed` naming the reason for what is refused: no regular file,
/// formats but raw and qcow2, a qcow2 file that names other files (backing file, external data), is encrypted, has
/// snapshots, is marked corrupt, uses what is not known, or whose numbers make no sense; anything above
/// `foreign_disk_limit_bytes`.
ForeignDisk check_foreign_disk(const std::filesystem::path& file);

inline constexpr std::uint64_t foreign_disk_limit_bytes = std::uint64_t{1} << 40;

}  // namespace agentvm
