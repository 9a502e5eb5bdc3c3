#include "sync/seed/tree_writer.hpp"

#include <cerrno>
#include <limits>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"

namespace agentvm::sync {
namespace {

constexpr int folder_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

/// Opens the folder that holds `name` below `root`, one component at a time. With `create` a missing or non-folder
/// component is (re)made. Empty when a component is missing or no folder.
UniqueFd open_parent(int root, const std::string& name, bool create) {
  UniqueFd current(check_errno(::fcntl(root, F_DUPFD_CLOEXEC, 3), "dup"));
  std::size_t start = 0;
  for (auto slash = name.find('/'); slash != std::string::npos; start = slash + 1, slash = name.find('/', start)) {
    const auto part = name.substr(start, slash - start);
    UniqueFd next(::openat(current.get(), part.c_str(), folder_flags));
    if (!next && create && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
      if (errno != ENOENT) ::unlinkat(current.get(), part.c_str(), 0);
      if (::mkdirat(current.get(), part.c_str(), 0777) < 0 && errno != EEXIST) throw_errno("creating " + name);
      next.reset(::openat(current.get(), part.c_str(), folder_flags));
      if (!next) throw_errno("creating " + name);
    }
    if (!next) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return {};
      throw_errno(name);
    }
    current = std::move(next);
  }
  return current;
}

std::string last_part(const std::string& name) {
  return name.substr(name.rfind('/') + 1);
}

std::uint64_t copy_content(int from, int to, const std::string& name, std::uint64_t limit_bytes) {
  struct stat status {};
  if (::fstat(from, &status) == 0 && static_cast<std::uint64_t>(status.st_size) <= limit_bytes &&
      ::ioctl(to, FICLONE, from) == 0)
    return static_cast<std::uint64_t>(
        status.st_size);  // shares blocks until either is written; independent all the same
  char buffer[1 << 16];
  for (std::uint64_t copied = 0;;) {
    const ssize_t count = ::read(from, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_errno("reading " + name);
    if (count == 0) return copied;
    copied += static_cast<std::uint64_t>(count);
    if (copied > limit_bytes)
      throw Error(ErrorCode::operation_failed, fmt::format("copying {} would pass the limit on bytes", name));
    write_all(to, {buffer, static_cast<std::size_t>(count)}, Deadline::never());
  }
}

std::uint64_t copy_link(int from, const std::string& from_leaf, int to, const std::string& to_leaf,
                        const std::string& name) {
  std::string text(PATH_MAX, '\0');
  const ssize_t size = ::readlinkat(from, from_leaf.c_str(), text.data(), text.size());
  if (size < 0) throw_errno("reading " + name);
  text.resize(static_cast<std::size_t>(size));
  check_errno(::symlinkat(text.c_str(), to, to_leaf.c_str()), "creating " + name);
  return text.size();
}

template <class Visit>
void walk(int dir_fd, const Visit& visit) {
  DIR* dir = ::fdopendir(dir_fd);
  if (!dir) throw_errno("reading a folder");
  const std::unique_ptr<DIR, int (*)(DIR*)> closer(dir, ::closedir);
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    visit(::dirfd(dir), name);
    UniqueFd child(::openat(::dirfd(dir), name.c_str(), folder_flags));
    if (child) walk(child.release(), visit);
  }
}

void remove_leaf(int parent, const std::string& leaf, const std::string& name) {
  if (::unlinkat(parent, leaf.c_str(), 0) == 0 || errno == ENOENT) return;
  if (errno != EISDIR && errno != EPERM) throw_errno("removing " + name);
  UniqueFd folder(::openat(parent, leaf.c_str(), folder_flags));
  if (!folder) throw_errno("removing " + name);
  std::vector<std::string> children;
  {
    DIR* dir = ::fdopendir(check_errno(::fcntl(folder.get(), F_DUPFD_CLOEXEC, 3), "dup"));
    if (!dir) throw_errno("reading " + name);
    const std::unique_ptr<DIR, int (*)(DIR*)> closer(dir, ::closedir);
    while (const dirent* entry = ::readdir(dir))
      if (std::string_view(entry->d_name) != "." && std::string_view(entry->d_name) != "..")
        children.emplace_back(entry->d_name);
  }
  for (const auto& child : children) remove_leaf(folder.get(), child, name);
  check_errno(::unlinkat(parent, leaf.c_str(), AT_REMOVEDIR), "removing " + name);
}

}  // namespace

TreeCopier::TreeCopier(const fs::path& from, const fs::path& to)
    : from_(open_file(from, O_RDONLY | O_DIRECTORY)), to_(open_file(to, O_RDONLY | O_DIRECTORY)) {}

bool TreeCopier::copy(const std::string& name) {
  return transfer(name, name, std::numeric_limits<std::uint64_t>::max(), Closed::is_error).has_value();
}

std::optional<std::uint64_t> TreeCopier::copy_as(const std::string& from, const std::string& to,
                                                 std::uint64_t limit_bytes) {
  return transfer(from, to, limit_bytes, Closed::is_absent);
}

std::optional<std::uint64_t> TreeCopier::transfer(const std::string& from, const std::string& to,
                                                  std::uint64_t limit_bytes, Closed closed) {
  const auto source_parent = open_parent(from_.get(), from, false);
  if (!source_parent) return std::nullopt;
  const auto source_leaf = last_part(from), leaf = last_part(to);
  struct stat status {};
  if (::fstatat(source_parent.get(), source_leaf.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno == ENOENT) return std::nullopt;
    throw_errno("reading " + from);
  }
  if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode)) return std::nullopt;
  UniqueFd source;
  if (S_ISREG(status.st_mode)) {
    source.reset(::openat(source_parent.get(), source_leaf.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!source && closed == Closed::is_absent) return std::nullopt;
    if (!source)
      throw Error(ErrorCode::operation_failed, fmt::format("{} cannot be read: {}", from, errno_text(errno)),
                  fmt::format("ls -l {}", from));
  }
  const auto target_parent = open_parent(to_.get(), to, true);
  remove_leaf(target_parent.get(), leaf, to);
  if (!source) return copy_link(source_parent.get(), source_leaf, target_parent.get(), leaf, from);
  // Owner bits decide, as for git: a file is executable or it is not.
  const mode_t mode = (status.st_mode & 0100) ? 0777 : 0666;
  UniqueFd target(
      ::openat(target_parent.get(), leaf.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!target) throw_errno("creating " + to);
  return copy_content(source.get(), target.get(), from, limit_bytes);
}

void TreeCopier::place_empty(const std::string& name) {
  const auto parent = open_parent(to_.get(), name, true);
  const auto leaf = last_part(name);
  remove_leaf(parent.get(), leaf, name);
  const UniqueFd file(::openat(parent.get(), leaf.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!file) throw_errno("creating " + name);
}

void TreeCopier::remove(const std::string& name) {
  auto rest = name;
  auto parent = open_parent(to_.get(), rest, false);
  if (!parent) return;
  remove_leaf(parent.get(), last_part(rest), name);
  for (auto slash = rest.rfind('/'); slash != std::string::npos; slash = rest.rfind('/')) {
    rest.resize(slash);
    parent = open_parent(to_.get(), rest, false);
    if (!parent || ::unlinkat(parent.get(), last_part(rest).c_str(), AT_REMOVEDIR) < 0)
      return;  // not empty: somebody lives there
  }
}

void give_to(const fs::path& root, uid_t uid, gid_t gid) {
  auto fd = open_file(root, folder_flags);
  check_errno(::fchown(fd.get(), uid, gid), "changing the owner of " + root.string());
  walk(fd.release(), [&](int dir, const std::string& name) {
    check_errno(::fchownat(dir, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW), "changing the owner of " + name);
  });
}

std::uint64_t count_entries(const fs::path& root) {
  std::uint64_t count = 0;
  walk(open_file(root, folder_flags).release(), [&](int, const std::string&) { ++count; });
  return count;
}

}  // namespace agentvm::sync
