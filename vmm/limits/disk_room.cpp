#include <limits>

#include <sys/statvfs.h>

#include "vmm/base/error.hpp"
#include "vmm/limits.hpp"

namespace agentvm {

DiskRoom disk_room(const std::filesystem::path& path) {
  struct statvfs status {};
  check_errno(::statvfs(path.c_str(), &status), path.string());
  constexpr auto uncounted = std::numeric_limits<std::uint64_t>::max();
  DiskRoom room;
  room.bytes = static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
  room.bytes_total = static_cast<std::uint64_t>(status.f_blocks) * status.f_frsize;
  room.inodes = status.f_files == 0 ? uncounted : status.f_favail;
  room.inodes_total = status.f_files == 0 ? uncounted : status.f_files;
  return room;
}

}  // namespace agentvm
