#include "vmm/disk/overlay.hpp"

#include <cerrno>

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

/// qemu-img splits a file name at the first colon into protocol and rest ("nbd:...", "json:..."): an absolute path has
/// none before its first slash, so it is always a file.
void check_local_path(const std::filesystem::path& path) {
  if (!path.is_absolute()) throw Error(ErrorCode::usage, fmt::format("disk path {} is not absolute", path.string()));
}

/// -u would skip opening the base; without it qemu-img checks that the base is there and readable.
void run_qemu_img(std::vector<std::string> argv, const std::filesystem::path& result, Deadline deadline) {
  if (::access(result.c_str(), F_OK) == 0) throw Error(ErrorCode::wrong_state, result.string() + " exists already");
  argv.insert(argv.begin(), {"qemu-img", "create", "-q", "-f", "qcow2"});
  ProcessSpec spec;
  spec.argv = std::move(argv);
  spec.die_with_parent = true;
  spec.in_child = [] {
    ::umask(0077);
    return 0;
  };
  try {
    run_checked(spec, deadline);
  } catch (Error& error) {
    ::unlink(result.c_str());
    error.while_doing("creating the disk " + result.string());
    throw;
  }
}

}  // namespace

void create_overlay(const std::filesystem::path& overlay, const std::filesystem::path& base, DiskFormat base_format,
                    ByteSize size, Deadline deadline) {
  check_local_path(overlay);
  check_local_path(base);
  struct stat status {};
  if (::stat(base.c_str(), &status) < 0) {
    if (errno == ENOENT)
      throw Error(ErrorCode::not_found, fmt::format("the base disk {} is missing", base.string()),
                  "agentvm image build");
    throw_errno(base.string());
  }
  if (!S_ISREG(status.st_mode))
    throw Error(ErrorCode::usage, fmt::format("the base disk {} is not a regular file", base.string()));
  const auto base_bytes = static_cast<std::uint64_t>(status.st_size);
  if (base_format == DiskFormat::raw && size.bytes() != 0 && size.bytes() < base_bytes)
    throw Error(ErrorCode::usage,
                fmt::format("a disk of {} is smaller than its base of {}", size.str(), ByteSize(base_bytes).str()));
  std::vector<std::string> argv{"-F", base_format == DiskFormat::raw ? "raw" : "qcow2", "-b", base.string(),
                                overlay.string()};
  if (size.bytes() != 0) argv.push_back(std::to_string(size.bytes()));
  run_qemu_img(std::move(argv), overlay, deadline);
}

void create_disk(const std::filesystem::path& path, ByteSize size, Deadline deadline) {
  check_local_path(path);
  if (size.bytes() == 0) throw Error(ErrorCode::usage, "a disk needs a size");
  run_qemu_img({path.string(), std::to_string(size.bytes())}, path, deadline);
}

std::uint64_t allocated_bytes(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) < 0) {
    if (errno == ENOENT) return 0;
    throw_errno(path.string());
  }
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

}  // namespace agentvm
