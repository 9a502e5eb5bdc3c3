#include "guest/image/rescue/walls.hpp"

#include <cerrno>
#include <csignal>
#include <memory>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::rescue {
namespace {

// libguestfs puts its sockets into /tmp for root, whatever it is told: any other id will do inside.
constexpr unsigned inner_uid_of_root = 1000;

void set_limit(__rlimit_resource kind, rlim_t value) {
  rlimit limit{};
  if (::getrlimit(kind, &limit) == 0 && limit.rlim_max < value) return;  // stricter already
  limit = {value, value};
  check_errno(::setrlimit(kind, &limit), "setrlimit");
}

bool write_map(const char* file, const std::string& text) {
  const UniqueFd fd(::open(file, O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

/// False where the host has no such namespaces; then nothing has changed.
bool enter_namespaces() {
  const auto uid = ::geteuid(), gid = ::getegid();
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID) < 0) return false;
  const auto inner = uid == 0 ? inner_uid_of_root : uid;
  if (!write_map("/proc/self/setgroups", "deny") ||
      !write_map("/proc/self/uid_map", fmt::format("{} {} 1", inner, uid)) ||
      !write_map("/proc/self/gid_map", fmt::format("{} {} 1", gid, gid)))
    throw_errno("the namespace of the rescue appliance");
  return true;
}

/// Process ids are the children's alone: one of them is the first, and all others end with it.
void become_first_process() {
  const pid_t first = check_errno(::fork(), "fork");
  if (first == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    return;
  }
  int status = 0;
  while (::waitpid(first, &status, 0) < 0 && errno == EINTR) {
  }
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int make_ruleset(std::uint64_t rights) {
  landlock_ruleset_attr attributes{};
  attributes.handled_access_fs = rights;
  return static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0));
}

void allow(int ruleset, const char* path, std::uint64_t rights) {
  const UniqueFd fd(::open(path, O_PATH | O_CLOEXEC));
  if (!fd) return;
  landlock_path_beneath_attr rule{};
  rule.allowed_access = rights;
  rule.parent_fd = fd.get();
  check_errno(static_cast<int>(::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0)),
              "landlock_add_rule");
}

void restrict_self(int ruleset) {
  check_errno(static_cast<int>(::syscall(SYS_landlock_restrict_self, ruleset, 0)), "landlock_restrict_self");
}

constexpr std::uint64_t reading =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t all_rights = (1ULL << 13) - 1;  // of the first version

constexpr const char* allowed_calls[] = {
    "read",         "write",         "readv",           "writev",         "lseek",     "openat",
    "open",         "close",         "fstat",           "newfstatat",     "fcntl",     "dup",
    "mmap",         "munmap",        "mprotect",        "mremap",         "madvise",   "brk",
    "poll",         "ppoll",         "select",          "pselect6",       "recvfrom",  "recvmsg",
    "rt_sigaction", "rt_sigreturn",  "rt_sigprocmask",  "sigaltstack",    "getpid",    "gettid",
    "tgkill",       "clock_gettime", "clock_nanosleep", "gettimeofday",   "getrandom", "futex",
    "sysinfo",      "exit",          "exit_group",      "restart_syscall"};

}  // namespace

void enter_walls(const std::vector<std::filesystem::path>& writable, std::uint64_t file_limit_bytes) {
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_FSIZE, file_limit_bytes);
  if (enter_namespaces()) become_first_process();
  check_errno(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  const UniqueFd ruleset(make_ruleset(all_rights & ~reading));
  if (!ruleset) return;  // not in this kernel
  constexpr std::uint64_t devices = LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_CHAR;
  for (const auto& place : writable) {
    std::error_code ignored;
    const bool folder = std::filesystem::is_directory(place, ignored);
    allow(ruleset.get(), place.c_str(), folder ? all_rights & ~reading & ~devices : LANDLOCK_ACCESS_FS_WRITE_FILE);
  }
  for (const char* device : {"/dev/null", "/dev/kvm"}) allow(ruleset.get(), device, LANDLOCK_ACCESS_FS_WRITE_FILE);
  restrict_self(ruleset.get());
}

void close_gates() {
  check_errno(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable");
  set_limit(RLIMIT_FSIZE, answer_limit_bytes);  // what an appliance answers goes into a file in memory
  if (const UniqueFd ruleset(make_ruleset(all_rights)); ruleset) restrict_self(ruleset.get());
  struct Release {
    void operator()(void* context) const { ::seccomp_release(context); }
  };
  // What a later libguestfs may want beyond these fails, and the disk is kept: no reason to end by a signal.
  const std::unique_ptr<void, Release> filter(::seccomp_init(SCMP_ACT_ERRNO(EPERM)));
  if (!filter) throw Error(ErrorCode::host_lacks, "seccomp filters are not available");
  const auto add = [&filter](const char* name, unsigned count = 0, const scmp_arg_cmp* arguments = nullptr) {
    const int number = ::seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR) return;  // not on this architecture
    const int result = ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, number, count, arguments);
    if (result < 0 && result != -EDOM) throw_errno(fmt::format("seccomp rule for {}", name), -result);
  };
  for (const char* name : allowed_calls) add(name);
  const scmp_arg_cmp connected[] = {{4, SCMP_CMP_EQ, 0, 0}};  // no address to send to
  add("sendto", 1, connected);
  if (const int result = ::seccomp_load(filter.get()); result < 0) throw_errno("loading the seccomp filter", -result);
}

}  // namespace agentvm::rescue
