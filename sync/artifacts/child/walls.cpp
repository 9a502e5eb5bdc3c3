#include "sync/artifacts/child/walls.hpp"

#include <cerrno>
#include <memory>

#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"

#ifdef AGENTVM_SANITIZED
/// The leak check would start a process at the end.
extern "C" int __lsan_is_turned_off() {
  return 1;
}
#endif

namespace agentvm::sync {
namespace {

void set_limit(int resource, std::uint64_t value) {
  rlimit limit{};
  const auto kind = static_cast<__rlimit_resource_t>(resource);
  if (::getrlimit(kind, &limit) == 0 && limit.rlim_max < value) return;  // stricter already
  limit = {value, value};
  check_errno(::setrlimit(kind, &limit), "setrlimit");
}

void limit_resources(const ArtifactLimits& limits) {
  set_limit(RLIMIT_CORE, 0);
#ifndef AGENTVM_SANITIZED
  // A path of 4 KiB, twice, for each entry would be 1.6 GB by default; nobody has that, and all of them fit in this.
  constexpr std::uint64_t base = 256u << 20, entry_bytes = 1024;
  set_limit(RLIMIT_DATA, base + limits.files * entry_bytes);
#endif
  set_limit(RLIMIT_FSIZE, limits.bytes);
  set_limit(RLIMIT_NOFILE, 64);
  set_limit(RLIMIT_MEMLOCK, 0);
}

/// Files, folders and links beneath the folder; no device, socket or pipe, not even there. The first version of
/// Landlock forbids every rename between folders, so it is of no use here.
void restrict_files(int folder) {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 2) return;
  constexpr std::uint64_t first_version_rights = (1ULL << 13) - 1;
  constexpr std::uint64_t refer_right = 1ULL << 13, truncate_right = 1ULL << 14;
  landlock_ruleset_attr attributes{};
  attributes.handled_access_fs = first_version_rights | refer_right | (version >= 3 ? truncate_right : 0);
  const UniqueFd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
  if (!ruleset) throw_errno("landlock_create_ruleset");
  landlock_path_beneath_attr rule{};
  rule.allowed_access = (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
                         LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                         LANDLOCK_ACCESS_FS_MAKE_SYM | refer_right | truncate_right) &
                        attributes.handled_access_fs;
  rule.parent_fd = folder;
  check_errno(static_cast<int>(::syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0)),
              "landlock_add_rule");
  check_errno(static_cast<int>(::syscall(SYS_landlock_restrict_self, ruleset.get(), 0)), "landlock_restrict_self");
}

// Nothing that takes a path from the root or the working folder: each is beneath a descriptor of ours.
constexpr const char* allowed_calls[] = {"read",
                                         "write",
                                         "readv",
                                         "writev",
                                         "lseek",
                                         "_llseek",
                                         "openat2",
                                         "close",
                                         "fstat",
                                         "fstat64",
                                         "newfstatat",
                                         "fstatat64",
                                         "statx",
                                         "readlinkat",
                                         "mkdirat",
                                         "unlinkat",
                                         "renameat",
                                         "symlinkat",
                                         "ftruncate",
                                         "ftruncate64",
                                         "utimensat",
                                         "fcntl",
                                         "fcntl64",
                                         "dup",
                                         "mmap",
                                         "mmap2",
                                         "munmap",
                                         "mprotect",
                                         "mremap",
                                         "madvise",
                                         "brk",
                                         "poll",
                                         "ppoll",
                                         "ppoll_time64",
                                         "rt_sigaction",
                                         "rt_sigreturn",
                                         "sigreturn",
                                         "rt_sigprocmask",
                                         "sigaltstack",
                                         "getpid",
                                         "gettid",
                                         "tgkill",
                                         "clock_gettime",
                                         "clock_gettime64",
                                         "clock_nanosleep",
                                         "clock_nanosleep_time64",
                                         "gettimeofday",
                                         "getrandom",
                                         "futex",
                                         "futex_time64",
                                         "sysinfo",
                                         "exit",
                                         "exit_group",
                                         "restart_syscall"};

#ifdef AGENTVM_SANITIZED
constexpr const char* sanitizer_calls[] = {"pipe", "pipe2", "sched_yield",
                                           "getrusage"};  // UBSan asks a pipe whether an address can be read
#else
constexpr std::initializer_list<const char*> sanitizer_calls = {};
#endif

void restrict_calls() {
  struct Release {
    void operator()(void* context) const { ::seccomp_release(context); }
  };
  const std::unique_ptr<void, Release> filter(::seccomp_init(SCMP_ACT_KILL_PROCESS));
  if (!filter) throw Error(ErrorCode::host_lacks, "seccomp filters are not available");
  const auto add = [&filter](const char* name, unsigned count = 0, scmp_arg_cmp argument = {}) {
    const int number = ::seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR) return;  // not on this architecture
    const int result =
        ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, number, count, count ? &argument : nullptr);
    if (result < 0 && result != -EDOM) throw_errno("seccomp rule for " + std::string(name), -result);
  };
  for (const char* name : allowed_calls) add(name);
  for (const char* name : sanitizer_calls) add(name);
  // Bytes into the connected stream (our own write_all sends); an address to send to must be null.
  add("sendto", 1, {4, SCMP_CMP_EQ, 0, 0});
  if (const int result = ::seccomp_load(filter.get()); result < 0) throw_errno("loading the seccomp filter", -result);
}

}  // namespace

void build_walls(const ArtifactLimits& limits, int folder) {
  limit_resources(limits);
  check_errno(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  check_errno(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable");
  restrict_files(folder);
  restrict_calls();
}

}  // namespace agentvm::sync
