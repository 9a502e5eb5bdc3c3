#include "vmm/base/files.hpp"

#include <cerrno>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "vmm/base/error.hpp"

namespace agentvm {

UniqueFd open_file(const fs::path& path, int flags, unsigned mode) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0 && errno == ENOENT) throw Error(ErrorCode::not_found, fmt::format("{}: no such file", path.string()));
  if (fd < 0) throw_errno(path.string());
  return UniqueFd(fd);
}

std::string read_file(const fs::path& path, std::size_t limit_bytes) {
  const auto fd = open_file(path, O_RDONLY);
  std::string content;
  char buffer[65536];
  for (;;) {
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_errno(path.string());
    if (count == 0) return content;
    content.append(buffer, static_cast<std::size_t>(count));
    if (content.size() > limit_bytes)
      throw Error(ErrorCode::operation_failed,
                  fmt::format("{}: larger than the {} bytes allowed here", path.string(), limit_bytes));
  }
}

std::optional<std::string> read_file_if_exists(const fs::path& path, std::size_t limit_bytes) {
  try {
    return read_file(path, limit_bytes);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::not_found) return std::nullopt;
    throw;
  }
}

std::string read_tail(const fs::path& path, std::size_t limit_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return {};
  const off_t size = ::lseek(fd.get(), 0, SEEK_END);
  const off_t start = size > static_cast<off_t>(limit_bytes) ? size - static_cast<off_t>(limit_bytes) : 0;
  std::string content(static_cast<std::size_t>(size > start ? size - start : 0), '\0');
  const ssize_t count = ::pread(fd.get(), content.data(), content.size(), start);
  content.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return content;
}

void sync_dir(const fs::path& path) {
  const auto fd = open_file(path, O_RDONLY | O_DIRECTORY);
  check_errno(::fsync(fd.get()), path.string());
}

void write_file_atomic(const fs::path& path, std::string_view content, unsigned mode) {
  const fs::path temporary = path.parent_path() / fmt::format(".{}.{}", path.filename().string(), random_hex(6));
  try {
    {
      const auto fd = open_file(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
      check_errno(::fchmod(fd.get(), mode), temporary.string());
      write_all(fd.get(), content, Deadline::never());
      check_errno(::fsync(fd.get()), temporary.string());
    }
    check_errno(::rename(temporary.c_str(), path.c_str()), path.string());
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_dir(path.parent_path().empty() ? fs::path(".") : path.parent_path());
}

void ensure_private_dir(const fs::path& path) {
  if (!path.parent_path().empty() && !fs::exists(path.parent_path())) ensure_private_dir(path.parent_path());
  if (::mkdir(path.c_str(), 0700) < 0 && errno != EEXIST) throw_errno("creating " + path.string());
  struct stat status {};
  check_errno(::lstat(path.c_str(), &status), path.string());
  if (!S_ISDIR(status.st_mode))
    throw Error(ErrorCode::operation_failed, fmt::format("{} is not a directory", path.string()),
                fmt::format("ls -ld {}", path.string()));
  if (status.st_uid != ::geteuid())
    throw Error(ErrorCode::operation_failed,
                fmt::format("{} belongs to uid {}, not to you", path.string(), status.st_uid),
                fmt::format("sudo chown {} {}", ::geteuid(), path.string()));
  if (status.st_mode & 0077)
    throw Error(ErrorCode::operation_failed, fmt::format("{} is open to others", path.string()),
                fmt::format("chmod go-rwx {}", path.string()));
}

namespace {

/// Opens a folder to be emptied, without following symlinks. A guest may have left it without permission bits; it is
/// ours (mapped to us), so it gets them back: through its descriptor, because the name may be a symlink to elsewhere by
/// then.
UniqueFd open_to_empty(int parent, const std::string& name) {
  UniqueFd fd(::openat(parent, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) < 0) throw_errno("opening " + name);
  if ((status.st_mode & 0700) != 0700 && ::chmod(fmt::format("/proc/self/fd/{}", fd.get()).c_str(), 0700) < 0)
    throw_errno("opening " + name);
  UniqueFd readable(::openat(fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!readable) throw_errno("opening " + name);
  return readable;
}

/// Empties one folder. Depth costs a descriptor and stack per level, and a guest chooses it: what lies deeper than a
/// few levels is moved up into `top` and found there by its next pass. Returns whether anything was moved.
bool remove_children(UniqueFd fd, dev_t device, int top, int depth) {
  constexpr int deepest = 32;
  DIR* dir = ::fdopendir(fd.get());
  if (!dir) throw_errno("reading a directory");
  fd.release();
  struct Closer {
    DIR* dir;
    ~Closer() { ::closedir(dir); }
  } closer{dir};
  const int here = ::dirfd(dir);
  bool moved = false;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat status {};
    if (::fstatat(here, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) continue;
    if (!S_ISDIR(status.st_mode)) {
      if (::unlinkat(here, name.c_str(), 0) < 0 && errno != ENOENT) throw_errno("removing " + name);
      continue;
    }
    if (status.st_dev != device)
      throw Error(ErrorCode::operation_failed, name + " is a mount point, not removed", "findmnt");
    auto child = open_to_empty(here, name);
    if (depth >= deepest) {
      check_errno(::renameat(here, name.c_str(), top, (".deep-" + random_hex(8)).c_str()), "moving " + name);
      moved = true;
      continue;
    }
    moved = remove_children(std::move(child), device, top, depth + 1) || moved;
    if (::unlinkat(here, name.c_str(), AT_REMOVEDIR) < 0 && errno != ENOENT) throw_errno("removing " + name);
  }
  return moved;
}

}  // namespace

void remove_tree(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) < 0) {
    if (errno == ENOENT) return;
    throw_errno(path.string());
  }
  try {
    if (S_ISDIR(status.st_mode)) {
      const auto top = open_to_empty(AT_FDCWD, path.string());
      while (remove_children(open_to_empty(top.get(), "."), status.st_dev, top.get(), 0)) {
      }
      check_errno(::rmdir(path.c_str()), path.string());
    } else {
      check_errno(::unlink(path.c_str()), path.string());
    }
  } catch (Error& error) {
    error.while_doing("removing " + path.string());
    throw;
  }
}

std::uint64_t free_bytes(const fs::path& path) {
  struct statvfs status {};
  check_errno(::statvfs(path.c_str(), &status), path.string());
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

std::string random_hex(std::size_t count_bytes) {
  std::string bytes(count_bytes, '\0');
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) throw_errno("getrandom");
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace agentvm
