#include "tests/support/failing_calls.hpp"

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <mutex>
#include <utility>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

std::atomic<bool> active = false;
thread_local bool counting = false;  // growing the list must not count itself
std::mutex mutex;                    // guards what follows
int fail_at = 0, failure = 0;
bool fail_after = false;
std::vector<std::string> calls;

/// Whether this call is to fail; errno is set then.
bool refused(const char* name) {
  if (!active || counting) return false;
  const std::lock_guard lock(mutex);
  counting = true;
  calls.emplace_back(name);
  counting = false;
  const int number = static_cast<int>(calls.size());
  if (fail_at == 0 || number < fail_at || (number > fail_at && !fail_after)) return false;
  errno = failure;
  return true;
}

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

/// Pipes and sockets are no files, and what wakes a thread must not fail.
bool is_file(int fd) {
  struct stat status {};
  return active && ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

// Only what the store and the files below it use to change something; reading and closing stay as they are.
extern "C" {
int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if ((flags & O_CREAT) && refused("open")) return -1;
  return real<int (*)(const char*, int, ...)>("open")(path, flags, mode);
}
int mkdir(const char* path, mode_t mode) noexcept {
  return refused("mkdir") ? -1 : real<int (*)(const char*, mode_t)>("mkdir")(path, mode);
}
int fchmod(int fd, mode_t mode) noexcept {
  return refused("fchmod") ? -1 : real<int (*)(int, mode_t)>("fchmod")(fd, mode);
}
ssize_t write(int fd, const void* data, size_t size) {
  return is_file(fd) && refused("write") ? -1 : real<ssize_t (*)(int, const void*, size_t)>("write")(fd, data, size);
}
int fsync(int fd) {
  return refused("fsync") ? -1 : real<int (*)(int)>("fsync")(fd);
}
int rename(const char* from, const char* to) noexcept {
  return refused("rename") ? -1 : real<int (*)(const char*, const char*)>("rename")(from, to);
}
int renameat2(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) noexcept {
  return refused("renameat2") ? -1
                              : real<int (*)(int, const char*, int, const char*, unsigned)>("renameat2")(
                                    from_dir, from, to_dir, to, flags);
}
int unlinkat(int dir, const char* name, int flags) noexcept {
  return refused("unlinkat") ? -1 : real<int (*)(int, const char*, int)>("unlinkat")(dir, name, flags);
}
int rmdir(const char* path) noexcept {
  return refused("rmdir") ? -1 : real<int (*)(const char*)>("rmdir")(path);
}
int unlink(const char* path) noexcept {
  return refused("unlink") ? -1 : real<int (*)(const char*)>("unlink")(path);
}
}

namespace agentvm::test {

void fail_call(int nth, int error_number, bool and_after) {
  const std::lock_guard lock(mutex);
  calls.clear();
  fail_at = nth;
  failure = error_number;
  fail_after = and_after;
  active = true;
}

std::vector<std::string> stop_failing() {
  active = false;
  const std::lock_guard lock(mutex);
  return std::exchange(calls, {});
}

}  // namespace agentvm::test
