#include "vmm/base/file_lock.hpp"

#include <cerrno>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {

std::optional<FileLock> FileLock::try_acquire(const std::filesystem::path& path) {
  auto fd = open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) < 0) {
    if (errno == EWOULDBLOCK) return std::nullopt;
    throw_errno(path.string());
  }
  return FileLock(std::move(fd));
}

FileLock FileLock::acquire(const std::filesystem::path& path, Deadline deadline) {
  for (;;) {
    if (auto lock = try_acquire(path)) return std::move(*lock);
    if (deadline.expired()) {
      const auto holder = read_tail(path, 32);
      throw Error(ErrorCode::timed_out,
                  fmt::format("{} is held by {}", path.string(), holder.empty() ? "another process" : "pid " + holder));
    }
    std::this_thread::sleep_for(milliseconds(20));
  }
}

void FileLock::record_pid() {
  const auto text = std::to_string(::getpid());
  check_errno(::ftruncate(fd_.get(), 0), "lock file");
  if (::pwrite(fd_.get(), text.data(), text.size(), 0) < 0) throw_errno("lock file");
}

}  // namespace agentvm
