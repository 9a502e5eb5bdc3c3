#include "sync/ref_locks.hpp"

#include <cerrno>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/host_git.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t journal_limit_bytes = 64u << 20;
constexpr milliseconds lock_patience{2000};  // git's own: 100 ms for a reference, 1 s for packed-refs

fs::path journal_of(const fs::path& common_dir) {
  return common_dir / "agentvm/locks";
}

/// As git does with core.sharedRepository: what the folder of references grants, our files grant.
mode_t mode_of_refs(const fs::path& common_dir) {
  struct stat status {};
  return ::stat((common_dir / "refs").c_str(), &status) == 0 ? status.st_mode & 07777 : 0755;
}

void make_folder(const fs::path& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0)
    check_errno(::chmod(path.c_str(), mode), path.string());  // whatever our umask is
  else if (errno != EEXIST)
    throw_errno("creating " + path.string());
}

UniqueFd make_file(const fs::path& path, mode_t mode) {
  auto fd = open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  check_errno(::fchmod(fd.get(), mode & 0666), path.string());
  return fd;
}

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

fs::path lock_of(const fs::path& file) {
  return file.string() + ".lock";
}

}  // namespace

FileLock lock_writers(const fs::path& common_dir, Deadline deadline) {
  const auto mode = mode_of_refs(common_dir);
  make_folder(common_dir / "agentvm", mode);
  const auto guard = common_dir / "agentvm/guard";
  std::error_code problem;
  if (!fs::exists(guard, problem)) try {
      make_file(guard, mode);
    } catch (const Error&) {
      if (!fs::exists(guard, problem)) throw;  // else somebody was faster
    }
  return FileLock::acquire(guard, deadline);
}

void remove_dead_locks(const fs::path& common_dir) {
  const auto journal = journal_of(common_dir);
  struct stat mine {
  }, lock{};
  if (::lstat((journal / "list").c_str(), &mine) == 0)
    for (const auto& name : split_nul(read_file(journal / "list", journal_limit_bytes))) {
      const auto path = common_dir / name;
      if (::lstat(path.c_str(), &lock) < 0 || !same_file(mine, lock)) continue;
      log::info("sync", "removing {}, the lock of a sync that was killed", path.string());
      if (::unlink(path.c_str()) < 0 && errno != ENOENT) throw_errno("removing " + path.string());
    }
  remove_tree(journal);
}

void make_ref_folders(const fs::path& common_dir, const fs::path& file) {
  const auto mode = mode_of_refs(common_dir);
  auto path = common_dir;
  for (const auto& part : file.parent_path()) make_folder(path /= part, mode);
}

RefLocks::RefLocks(const fs::path& common_dir, const std::vector<fs::path>& files)
    : common_dir_(common_dir), journal_(journal_of(common_dir)) {
  std::string names;
  for (const auto& file : files) {
    names += lock_of(file).string() + '\0';
    locks_.push_back(lock_of(file));
  }
  const auto mode = mode_of_refs(common_dir);
  make_folder(journal_, mode);
  try {
    // On the disk before the first lock is: after a power cut too, what is locked is written down.
    const auto list = make_file(journal_ / "list", mode);
    write_all(list.get(), names, Deadline::never());
    check_errno(::fsync(list.get()), journal_.string());
    sync_dir(journal_);
    sync_dir(journal_.parent_path());
  } catch (...) {
    release();
    throw;
  }
}

RefLocks::~RefLocks() {
  release();
}

void RefLocks::release() noexcept {
  for (; taken_ > 0; --taken_) ::unlink((common_dir_ / locks_[taken_ - 1]).c_str());
  try {
    remove_tree(journal_);
  } catch (const Error& error) {
    log::warn("sync", "{}", error.what());  // the next writer removes it
  }
}

bool RefLocks::take(Deadline deadline) {
  deadline = deadline.sooner(Deadline::after(lock_patience));
  while (taken_ < locks_.size()) {
    const auto path = common_dir_ / locks_[taken_];
    if (locks_[taken_].is_relative()) make_ref_folders(common_dir_, locks_[taken_]);
    if (::link((journal_ / "list").c_str(), path.c_str()) == 0) {
      ++taken_;
      continue;
    }
    if (taken_ == 0 && (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS || errno == EXDEV)) return false;
    // ENOENT: git removes folders that it finds empty, we make it anew.
    if (errno != EEXIST && errno != ENOENT) throw_errno("locking " + path.string());
    if (deadline.expired())
      throw Error(ErrorCode::operation_failed,
                  fmt::format("{} exists: another git is at work there, or was killed", path.string()),
                  fmt::format("ls -l {}", path.string()));
    std::this_thread::sleep_for(milliseconds(10));
  }
  return true;
}

fs::path RefLocks::draft(std::string_view content) {
  const auto path = journal_ / fmt::format("draft-{}", ++drafts_);
  const auto fd = make_file(path, mode_of_refs(common_dir_));
  write_all(fd.get(), content, Deadline::never());
  check_errno(::fsync(fd.get()), path.string());
  return path;
}

}  // namespace agentvm::sync
