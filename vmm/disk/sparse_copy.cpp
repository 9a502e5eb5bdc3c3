#include "vmm/disk/sparse_copy.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

constexpr std::size_t chunk_bytes = 1u << 20, page_bytes = 4096;

off_t length_of(int fd) {
  struct stat status {};
  check_errno(::fstat(fd, &status), "the length of a file");
  return status.st_size;
}

bool is_zero(const char* data, std::size_t size) {
  return data[0] == 0 && std::memcmp(data, data + 1, size - 1) == 0;
}

void write_at(int fd, const char* data, std::size_t size, off_t offset) {
  while (size > 0) {
    const ssize_t count = ::pwrite(fd, data, size, offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_errno("writing a copy");
    data += count;
    size -= static_cast<std::size_t>(count);
    offset += count;
  }
}

/// Writes the runs of blocks that are not zero.
std::uint64_t write_blocks(int fd, const char* data, std::size_t size, off_t offset) {
  std::uint64_t written = 0;
  for (std::size_t start = 0; start < size;) {
    const auto block = std::min(page_bytes, size - start);
    if (is_zero(data + start, block)) {
      start += block;
      continue;
    }
    auto end = start + block;
    while (end < size && !is_zero(data + end, std::min(page_bytes, size - end)))
      end += std::min(page_bytes, size - end);
    write_at(fd, data + start, end - start, offset + static_cast<off_t>(start));
    written += end - start;
    start = end;
  }
  return written;
}

}  // namespace

std::uint64_t copy_sparse(int from, int into, Deadline deadline) {
  const auto length = length_of(from);
  if (length_of(into) == length && length > 0)  // memory is sealed against other lengths
    check_errno(::fallocate(into, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, length), "emptying a copy");
  else
    check_errno(::ftruncate(into, length), "the length of a copy");
  const auto buffer = std::make_unique<char[]>(chunk_bytes);
  std::uint64_t copied = 0;
  for (off_t offset = 0; offset < length;) {
    const off_t data = ::lseek(from, offset, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // nothing but a hole is left
    check_errno(static_cast<int>(std::min<off_t>(data, 0)), "looking for data");
    const off_t hole = ::lseek(from, data, SEEK_HOLE);
    check_errno(static_cast<int>(std::min<off_t>(hole, 0)), "looking for holes");
    for (offset = data; offset < hole;) {
      if (deadline.expired()) throw Error(ErrorCode::timed_out, "a copy was not whole in time");
      const auto wanted = std::min<off_t>(chunk_bytes, hole - offset);
      const ssize_t count = ::pread(from, buffer.get(), static_cast<std::size_t>(wanted), offset);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) throw_errno("reading for a copy", count == 0 ? EIO : errno);
      copied += write_blocks(into, buffer.get(), static_cast<std::size_t>(count), offset);
      offset += count;
    }
  }
  return copied;
}

void copy_sparse_file(const std::filesystem::path& from, const std::filesystem::path& into, Deadline deadline) {
  const auto source = open_file(from, O_RDONLY | O_NOFOLLOW);
  const auto target = open_file(into, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
  try {
    if (::ioctl(target.get(), FICLONE, source.get()) < 0) copy_sparse(source.get(), target.get(), deadline);
  } catch (Error& error) {
    ::unlink(into.c_str());
    throw error.while_doing("copying " + from.string());
  }
}

}  // namespace agentvm
