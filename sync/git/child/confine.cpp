#include "sync/git/child/confine.hpp"

#include <cerrno>

#include <fcntl.h>
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

namespace agentvm::git {
namespace {

void set_limit(int resource, rlim_t value) {
  const rlimit limit{value, value};
  rlimit current{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &current) == 0 && current.rlim_max < value)
    return;  // stricter already
  check_errno(::setrlimit(static_cast<__rlimit_resource_t>(resource), &limit), "setrlimit");
}

constexpr std::uint64_t read_rights = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t first_version_rights = (1ULL << 13) - 1;
constexpr std::uint64_t refer_right = 1ULL << 13, truncate_right = 1ULL << 14;

void allow_below(int ruleset, const std::string& folder, std::uint64_t rights) {
  UniqueFd fd(::open(folder.c_str(), O_PATH | O_CLOEXEC));
  if (!fd) throw_errno(folder);
  landlock_path_beneath_attr rule{};
  rule.allowed_access = rights;
  rule.parent_fd = fd.get();
  check_errno(static_cast<int>(::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0)),
              "landlock_add_rule");
}

void restrict_files(const std::vector<std::string>& read_only, const std::string& writable) {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 1) return;  // not built in or not switched on
  landlock_ruleset_attr attributes{};
  attributes.handled_access_fs =
      first_version_rights | (version >= 2 ? refer_right : 0) | (version >= 3 ? truncate_right : 0);
  UniqueFd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
  if (!ruleset) throw_errno("landlock_create_ruleset");
  for (const auto& folder : read_only) allow_below(ruleset.get(), folder, read_rights);
  // No execution, no devices, sockets, pipes or symbolic links, not even in the quarantine.
  const std::uint64_t write_rights = read_rights | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                                     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
                                     LANDLOCK_ACCESS_FS_MAKE_REG | refer_right | truncate_right;
  allow_below(ruleset.get(), writable, write_rights & attributes.handled_access_fs);
  check_errno(static_cast<int>(::syscall(SYS_landlock_restrict_self, ruleset.get(), 0)), "landlock_restrict_self");
}

// What single-threaded file work, memory and the two streams need. The streams are read(2), write(2) and poll(2): no
// socket call at all.
constexpr const char* allowed_calls[] = {"read",
                                         "write",
                                         "readv",
                                         "writev",
                                         "pread64",
                                         "pwrite64",
                                         "lseek",
                                         "_llseek",
                                         "open",
                                         "openat",
                                         "close",
                                         "close_range",
                                         "creat",
                                         "stat",
                                         "lstat",
                                         "fstat",
                                         "newfstatat",
                                         "fstatat64",
                                         "stat64",
                                         "lstat64",
                                         "fstat64",
                                         "statx",
                                         "statfs",
                                         "fstatfs",
                                         "access",
                                         "faccessat",
                                         "faccessat2",
                                         "getdents",
                                         "getdents64",
                                         "readlink",
                                         "readlinkat",
                                         "getcwd",
                                         "chdir",
                                         "mkdir",
                                         "mkdirat",
                                         "rmdir",
                                         "unlink",
                                         "unlinkat",
                                         "rename",
                                         "renameat",
                                         "renameat2",
                                         "link",
                                         "linkat",
                                         "chmod",
                                         "fchmod",
                                         "fchmodat",
                                         "ftruncate",
                                         "ftruncate64",
                                         "fallocate",
                                         "fsync",
                                         "fdatasync",
                                         "utime",
                                         "utimes",
                                         "utimensat",
                                         "umask",
                                         "fcntl",
                                         "fcntl64",
                                         "dup",
                                         "flock",
                                         "fadvise64",
                                         "mmap",
                                         "mmap2",
                                         "munmap",
                                         "mprotect",
                                         "mremap",
                                         "madvise",
                                         "msync",
                                         "brk",
                                         "poll",
                                         "ppoll",
                                         "ppoll_time64",
                                         "select",
                                         "pselect6",
                                         "rt_sigaction",
                                         "rt_sigprocmask",
                                         "rt_sigreturn",
                                         "sigaltstack",
                                         "sigreturn",
                                         "getpid",
                                         "gettid",
                                         "getppid",
                                         "getuid",
                                         "geteuid",
                                         "getgid",
                                         "getegid",
                                         "tgkill",
                                         "clock_gettime",
                                         "clock_gettime64",
                                         "clock_getres",
                                         "clock_nanosleep",
                                         "clock_nanosleep_time64",
                                         "nanosleep",
                                         "gettimeofday",
                                         "time",
                                         "times",
                                         "getrusage",
                                         "getrandom",
                                         "futex",
                                         "futex_time64",
                                         "set_robust_list",
                                         "rseq",
                                         "sched_yield",
                                         "sched_getaffinity",
                                         "sysinfo",
                                         "uname",
                                         "getrlimit",
                                         "ugetrlimit",
                                         "exit",
                                         "exit_group",
                                         "restart_syscall"};

#ifdef AGENTVM_SANITIZED
constexpr const char* sanitizer_calls[] = {"pipe", "pipe2"};  // UBSan asks a pipe whether an address can be read
#else
constexpr std::initializer_list<const char*> sanitizer_calls = {};
#endif

void restrict_calls() {
  struct Release {
    void operator()(void* context) const { ::seccomp_release(context); }
  };
  std::unique_ptr<void, Release> filter(::seccomp_init(SCMP_ACT_KILL_PROCESS));
  if (!filter) throw Error(ErrorCode::host_lacks, "seccomp filters are not available");
  const auto add = [&filter](unsigned action, const char* name, unsigned count = 0, scmp_arg_cmp argument = {}) {
    const int number = ::seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR) return;  // not on this architecture
    const int result = ::seccomp_rule_add_array(filter.get(), action, number, count, count ? &argument : nullptr);
    if (result < 0 && result != -EDOM) throw_errno("seccomp rule for " + std::string(name), -result);
  };
  for (const char* name : allowed_calls) add(SCMP_ACT_ALLOW, name);
  for (const char* name : sanitizer_calls) add(SCMP_ACT_ALLOW, name);
  add(SCMP_ACT_ERRNO(ENOTTY), "ioctl");  // isatty and the like
  // prlimit64 is how the C library asks for limits; setting them stays closed: the third argument must be null.
  add(SCMP_ACT_ALLOW, "prlimit64", 1, {2, SCMP_CMP_EQ, 0, 0});
  // Bytes into the connected stream (our own write_all sends); an address to send to must be null.
  add(SCMP_ACT_ALLOW, "sendto", 1, {4, SCMP_CMP_EQ, 0, 0});
  if (const int result = ::seccomp_load(filter.get()); result < 0) throw_errno("loading the seccomp filter", -result);
}

}  // namespace

void limit_resources(const sync::SyncLimits& limits) {
  set_limit(RLIMIT_CORE, 0);
#ifndef AGENTVM_SANITIZED
  // With it, shadow memory alone is more than any limit of ours.
  constexpr std::uint64_t address_slack = 64ULL << 30;  // file mappings of large packs are address space, not memory
  set_limit(RLIMIT_DATA, limits.memory);
  set_limit(RLIMIT_AS, limits.memory + address_slack);
#endif
  set_limit(RLIMIT_STACK, 8u << 20);
  set_limit(RLIMIT_CPU, limits.seconds + 5);
  set_limit(RLIMIT_FSIZE, limits.bytes + (limits.objects * 40) + (1u << 20));
  set_limit(RLIMIT_NOFILE, 512);
  set_limit(RLIMIT_MEMLOCK, 0);
}

void confine(const std::vector<std::string>& read_only, const std::string& writable) {
  check_errno(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  check_errno(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable");
  restrict_files(read_only, writable);
  restrict_calls();
}

}  // namespace agentvm::git
