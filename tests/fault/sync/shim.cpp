// Preloaded: counts, over all processes of a run, the calls that change files, and at the chosen one kills the whole
// process group (-9) or begins to fail all that need space. The counter is a file that everybody maps.

#include "tests/fault/sync/shim.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

agentvm::test::FaultPlan* plan = nullptr;
pid_t group = 0;
bool confined = false;  // by agentvm's own walls: no call to kill, and none to ask for the group

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

__attribute__((constructor)) void begin() {
  const char* path = std::getenv("AGENTVM_FAULT_PLAN");
  if (!path) return;
  const int fd = real<int (*)(const char*, int, ...)>("open")(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void* map = ::mmap(nullptr, sizeof(agentvm::test::FaultPlan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (map == MAP_FAILED) return;
  plan = static_cast<agentvm::test::FaultPlan*>(map);
  group = ::getpgrp();
  const std::string_view name = program_invocation_short_name;
  confined = name.starts_with("agentvm-");
  if (plan->spares_git && name.starts_with("git")) plan = nullptr;
}

[[noreturn]] void kill_all() {
  if (confined)
    plan->to_kill = group;
  else
    ::kill(0, SIGKILL);
  for (const timespec while_it_comes{1, 0};;) ::nanosleep(&while_it_comes, nullptr);
}

enum class Needs { nothing, space };

/// Counts a call; true when it is to fail (errno is set).
bool refused(Needs needs) {
  if (!plan) return false;
  const int number = ++plan->calls;
  if (confined) ++plan->confined;
  if (plan->at == 0 || number < plan->at) return false;
  if (plan->kill) kill_all();
  if (needs == Needs::nothing) return false;
  errno = ENOSPC;
  return true;
}

bool is_regular(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

#define OPEN(name)                                                         \
  int name(const char* path, int flags, ...) {                             \
    va_list arguments;                                                     \
    va_start(arguments, flags);                                            \
    const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;   \
    va_end(arguments);                                                     \
    if ((flags & O_CREAT) && refused(Needs::space)) return -1;             \
    return real<int (*)(const char*, int, ...)>(#name)(path, flags, mode); \
  }
#define OPENAT(name)                                                                 \
  int name(int dir, const char* path, int flags, ...) {                              \
    va_list arguments;                                                               \
    va_start(arguments, flags);                                                      \
    const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;             \
    va_end(arguments);                                                               \
    if ((flags & O_CREAT) && refused(Needs::space)) return -1;                       \
    return real<int (*)(int, const char*, int, ...)>(#name)(dir, path, flags, mode); \
  }

extern "C" {
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int mkdir(const char* path, mode_t mode) noexcept {
  return refused(Needs::space) ? -1 : real<int (*)(const char*, mode_t)>("mkdir")(path, mode);
}
ssize_t write(int fd, const void* data, size_t size) {
  if (is_regular(fd) && refused(Needs::space)) return -1;
  return real<ssize_t (*)(int, const void*, size_t)>("write")(fd, data, size);
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t at) {
  if (is_regular(fd) && refused(Needs::space)) return -1;
  return real<ssize_t (*)(int, const void*, size_t, off64_t)>("pwrite64")(fd, data, size, at);
}
int ftruncate(int fd, off_t size) noexcept {
  return refused(Needs::space) ? -1 : real<int (*)(int, off_t)>("ftruncate")(fd, size);
}
int ftruncate64(int fd, off64_t size) noexcept {
  return refused(Needs::space) ? -1 : real<int (*)(int, off64_t)>("ftruncate64")(fd, size);
}
ssize_t copy_file_range(int from, off64_t* from_at, int to, off64_t* to_at, size_t size, unsigned flags) {
  if (refused(Needs::space)) return -1;
  return real<ssize_t (*)(int, off64_t*, int, off64_t*, size_t, unsigned)>("copy_file_range")(from, from_at, to, to_at,
                                                                                              size, flags);
}
int fsync(int fd) {
  return refused(Needs::space) ? -1 : real<int (*)(int)>("fsync")(fd);
}
int link(const char* from, const char* to) noexcept {
  return refused(Needs::space) ? -1 : real<int (*)(const char*, const char*)>("link")(from, to);
}
int rename(const char* from, const char* to) noexcept {
  return refused(Needs::nothing) ? -1 : real<int (*)(const char*, const char*)>("rename")(from, to);
}
int renameat(int from_dir, const char* from, int to_dir, const char* to) noexcept {
  return refused(Needs::nothing)
             ? -1
             : real<int (*)(int, const char*, int, const char*)>("renameat")(from_dir, from, to_dir, to);
}
int unlink(const char* path) noexcept {
  return refused(Needs::nothing) ? -1 : real<int (*)(const char*)>("unlink")(path);
}
int unlinkat(int dir, const char* path, int flags) noexcept {
  return refused(Needs::nothing) ? -1 : real<int (*)(int, const char*, int)>("unlinkat")(dir, path, flags);
}
int rmdir(const char* path) noexcept {
  return refused(Needs::nothing) ? -1 : real<int (*)(const char*)>("rmdir")(path);
}
}
