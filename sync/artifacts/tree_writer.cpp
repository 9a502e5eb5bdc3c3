#include "sync/artifacts/tree_writer.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/error.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t target_limit_bytes = 4096;

int open_beneath(int folder, const char* path, std::uint64_t flags, std::uint64_t mode = 0) {
  open_how how{};
  how.flags = flags | O_CLOEXEC | O_NOFOLLOW;
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(::syscall(SYS_openat2, folder, path, &how, sizeof how));
}

std::string_view name_of(const std::string& path) {
  return std::string_view(path).substr(path.rfind('/') + 1);
}

/// What on the way to a name is not ours to change.
bool is_obstacle(int problem) {
  return problem == ELOOP || problem == ENOTDIR || problem == EXDEV || problem == EISDIR || problem == EEXIST ||
         problem == ENOTEMPTY || problem == ENAMETOOLONG;
}

}  // namespace

TreeWriter::TreeWriter(int folder) : folder_(folder) {
  const UniqueFd probe(open_beneath(folder, ".", O_PATH | O_DIRECTORY));
  if (probe) return;
  if (errno == ENOSYS) throw Error(ErrorCode::host_lacks, "the kernel has no openat2, which came with Linux 5.6");
  throw_errno("the folder for build products");
}

TreeWriter::~TreeWriter() {
  discard();
}

/// Of the folder that holds `path`; empty with `problem` set. Names are made one by one, each beneath the one before.
UniqueFd TreeWriter::parent(const std::string& path, Missing missing, int& problem) {
  const auto slash = path.rfind('/');
  const auto wanted = slash == path.npos ? std::string(".") : path.substr(0, slash);
  if (parent_ && wanted == parent_path_) return duplicate(parent_.get());
  UniqueFd folder(open_beneath(folder_, wanted.c_str(), O_PATH | O_DIRECTORY));
  if (!folder && errno == ENOENT && missing == Missing::make) {
    folder.reset(open_beneath(folder_, ".", O_PATH | O_DIRECTORY));
    for (std::size_t start = 0; folder && start <= wanted.size();) {
      const auto end = std::min(wanted.find('/', start), wanted.size());
      const auto part = wanted.substr(start, end - start);
      start = end + 1;
      if (::mkdirat(folder.get(), part.c_str(), 0777) < 0 && errno != EEXIST) break;
      folder.reset(open_beneath(folder.get(), part.c_str(), O_PATH | O_DIRECTORY));
    }
    if (!folder && errno == ENOENT) errno = EEXIST;  // somebody took away what we had made
  }
  if (!folder) {
    problem = errno;
    return folder;
  }
  parent_path_ = wanted;
  parent_ = duplicate(folder.get());
  return folder;
}

TreeWriter::Found TreeWriter::look(const std::string& path) {
  Found found;
  int problem = 0;
  const auto folder = parent(path, Missing::leave, problem);
  if (!folder) {
    if (problem == ENOENT) return found;
    if (!is_obstacle(problem)) throw_errno(path, problem);
    found.kind = Found::Kind::blocked;
    return found;
  }
  const std::string name(name_of(path));
  struct stat status {};
  if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno != ENOENT) found.kind = Found::Kind::blocked;
    return found;
  }
  found.kind = Found::Kind::blocked;
  if (S_ISREG(status.st_mode)) {
    found.kind = Found::Kind::file;
    found.size = static_cast<std::uint64_t>(status.st_size);
    found.mtime_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
    found.executable = status.st_mode & S_IXUSR;
  } else if (S_ISLNK(status.st_mode)) {
    char target[target_limit_bytes];
    const auto size = ::readlinkat(folder.get(), name.c_str(), target, sizeof target);
    found.kind = Found::Kind::link;
    if (size > 0) found.target.assign(target, static_cast<std::size_t>(size));
  }
  return found;
}

UniqueFd TreeWriter::open(const std::string& path) {
  int problem = 0;
  const auto folder = parent(path, Missing::leave, problem);
  if (!folder) return UniqueFd();
  return UniqueFd(open_beneath(folder.get(), std::string(name_of(path)).c_str(), O_RDONLY | O_NONBLOCK));
}

void TreeWriter::begin(bool executable) {
  discard();
  ::unlinkat(folder_, draft_name, 0);  // of one that was killed
  draft_.reset(open_beneath(folder_, draft_name, O_WRONLY | O_CREAT | O_EXCL, executable ? 0777 : 0666));
  if (!draft_) throw_errno(draft_name);
  size_ = 0;
}

void TreeWriter::write(std::string_view bytes) {
  size_ += bytes.size();
  while (!bytes.empty()) {
    const auto count = ::write(draft_.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_errno("writing a build product");
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void TreeWriter::hole(std::uint64_t size) {
  size_ += size;
  if (::lseek(draft_.get(), static_cast<off_t>(size), SEEK_CUR) < 0) throw_errno("writing a build product");
}

std::optional<std::string> TreeWriter::commit(const std::string& path, std::int64_t mtime_ns) {
  if (::ftruncate(draft_.get(), static_cast<off_t>(size_)) < 0)
    throw_errno("writing a build product");  // a hole at the end
  constexpr std::int64_t second = 1'000'000'000;
  timespec times[2] = {{0, UTIME_OMIT}, {mtime_ns / second, mtime_ns % second}};
  if (mtime_ns >= 0) ::futimens(draft_.get(), times);  // a date from before 1970 makes it come again, no more
  draft_.reset();
  return place(path);
}

void TreeWriter::discard() {
  if (!draft_) return;
  draft_.reset();
  ::unlinkat(folder_, draft_name, 0);
}

std::optional<std::string> TreeWriter::link(const std::string& path, const std::string& target) {
  ::unlinkat(folder_, draft_name, 0);
  if (::symlinkat(target.c_str(), folder_, draft_name) < 0) throw_errno(draft_name);
  return place(path);
}

/// The draft becomes `path`. A folder in its place makes rename(2) fail; so do links on the way, since none is
/// followed.
std::optional<std::string> TreeWriter::place(const std::string& path) {
  int problem = 0;
  const auto folder = parent(path, Missing::make, problem);
  if (folder) {
    if (::renameat(folder_, draft_name, folder.get(), std::string(name_of(path)).c_str()) == 0) return std::nullopt;
    problem = errno;
  }
  ::unlinkat(folder_, draft_name, 0);
  parent_.reset();
  if (is_obstacle(problem)) return "something of yours is in the way: " + errno_text(problem);
  throw_errno(path, problem);
}

}  // namespace agentvm::sync
