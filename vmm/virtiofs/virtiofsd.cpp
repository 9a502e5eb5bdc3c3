#include "vmm/virtiofs/virtiofsd.hpp"

#include <algorithm>
#include <cerrno>
#include <mutex>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"
#include "vmm/base/unix_socket.hpp"
#include "vmm/limits.hpp"
#include "vmm/virtiofs/mapped_process.hpp"

namespace agentvm {
namespace {

constexpr int listen_fd_in_child = 3;
// The daemon keeps a descriptor per file that the guest's kernel remembers; large trees have many.
constexpr rlim_t open_files_limit = 1048576;
constexpr std::string_view log_limit_bytes = "262144";

/// Children of ours that live on by themselves: reaped here once they ended, so that a long-lived parent gathers no
/// zombies.
class Orphans {
 public:
  void add(Process process) {
    const std::lock_guard lock(mutex_);
    pids_.push_back(process.pid());
    process.detach();
  }
  void reap() {
    const std::lock_guard lock(mutex_);
    std::erase_if(pids_, [](pid_t pid) {
      const pid_t ended = ::waitpid(pid, nullptr, WNOHANG);
      return ended == pid || (ended < 0 && errno == ECHILD);
    });
  }

 private:
  std::mutex mutex_;
  std::vector<pid_t> pids_;  // guarded by mutex_; each is our unreaped child, so none can be recycled
};

Orphans& orphans() {
  static Orphans instance;
  return instance;
}

/// Mount flags that the folder's file system has and that a namespace must keep.
unsigned long kept_mount_flags(const fs::path& folder) {
  struct statvfs status {};
  check_errno(::statvfs(folder.c_str(), &status), folder.string());
  constexpr std::pair<unsigned long, unsigned long> pairs[] = {{ST_RDONLY, MS_RDONLY},
                                                               {ST_NOEXEC, MS_NOEXEC},
                                                               {ST_NOATIME, MS_NOATIME},
                                                               {ST_NODIRATIME, MS_NODIRATIME},
                                                               {ST_RELATIME, MS_RELATIME}};
  unsigned long flags = 0;
  for (const auto& [seen, kept] : pairs)
    if (status.f_flag & seen) flags |= kept;
  return flags;
}

/// A folder that every host has and that the daemon does not need: covered, in its own mount namespace, by the shared
/// one.
fs::path mount_point() {
  for (const char* path : {"/mnt", "/media", "/srv", "/tmp"}) {
    struct stat status {};
    if (::lstat(path, &status) == 0 && S_ISDIR(status.st_mode)) return path;
  }
  throw Error(ErrorCode::host_lacks, "this host has no folder /mnt", "sudo mkdir /mnt");
}

/// Runs in the child, outside the namespace: there the limits can still be raised.
int set_limits() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) < 0) return errno;
  const rlimit wanted{open_files_limit, open_files_limit},
      possible{std::min(files.rlim_max, open_files_limit), files.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &wanted) < 0 && ::setrlimit(RLIMIT_NOFILE, &possible) < 0) return errno;
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) < 0) return errno;
  ::setpriority(PRIO_PROCESS, 0, guest_nice);
  const int badness = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (badness >= 0) {
    const auto text = std::to_string(guest_oom_score_adj);          // short: in the string itself
    if (::write(badness, text.data(), text.size()) < 0) errno = 0;  // such kernels have a choice of their own
    ::close(badness);
  }
  return 0;
}

/// A guest may fill the host's disk no faster than it writes: fallocate(2) for a terabyte is done at once, and
/// copy_file_range(2) for gigabytes goes on in the daemon when the guest's CPUs stop; nobody could step in. Holes may
/// still be punched, and guests copy by reading and writing. The shared program has no option for it; its own filter
/// comes on top.
int refuse_instant_growth() {
  constexpr auto load = BPF_LD | BPF_W | BPF_ABS;
  sock_filter code[] = {
      BPF_STMT(load, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 7),
      BPF_STMT(load, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_copy_file_range, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_fallocate, 0, 4),
      BPF_STMT(load, offsetof(seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, FALLOC_FL_PUNCH_HOLE, 2, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{static_cast<unsigned short>(std::size(code)), code};
  return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0 ? errno : 0;
}

/// Starts the process that keeps the daemon's output below a size, whatever a guest provokes; it ends with the daemon.
void start_log_writer(const fs::path& log, UniqueFd read_end) {
  ::unlink(log.c_str());
  const auto file = open_file(log, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
  ProcessSpec spec;
  spec.argv = {"sh", "-c", fmt::format("head -c {}; exec cat >/dev/null", log_limit_bytes)};
  spec.fds = {{0, read_end.get()}, {1, file.get()}};
  spec.cwd = "/";
  spec.new_session = true;
  orphans().add(Process::spawn(spec));
}

/// Whether this process may use it, capabilities(7).
bool has_capability(int capability) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capget, &header, sets) < 0) return false;
  return (sets[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}

struct Opened {
  UniqueFd pidfd;
  bool same = false;  ///< it is the process that was recorded, and it has not ended
};

Opened open_process(const ProcessIdentity& identity) {
  Opened result;
  if (identity.pid <= 0) return result;
  result.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, identity.pid, 0)));
  if (!result.pidfd) return result;
  // Only after the pidfd is open can the comparison not be outrun by a new process of that number.
  result.same = process_start_ticks(identity.pid) == identity.start_ticks &&
                !wait_for(result.pidfd.get(), POLLIN, Deadline::after(milliseconds(0)));
  return result;
}

/// The sandboxed worker, which would end by itself soon after its parent; named so that it can be waited for.
std::vector<UniqueFd> open_children(int pid) {
  std::vector<UniqueFd> result;
  for (const int child : child_processes(pid)) {
    UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
    if (fd) result.push_back(std::move(fd));
  }
  return result;
}

}  // namespace

VirtiofsdKind virtiofsd_kind(std::string_view version_output) {
  // "virtiofsd version 7.2.22 (Debian ...)" and "using FUSE kernel interface version" from QEMU; "virtiofsd 1.13.0"
  // from the Rust project.
  // The Rust one is told by its number right after the name: whatever else a host makes the C one print (warnings
  // first, or nothing at all), it must not be started with the other's options.
  constexpr std::string_view rust_prefix = "virtiofsd ";
  const auto start = version_output.starts_with(rust_prefix) ? 0 : version_output.find("\nvirtiofsd ");
  if (start == std::string_view::npos) return VirtiofsdKind::c_qemu;
  const auto after = version_output.substr(start + rust_prefix.size() + (start == 0 ? 0 : 1));
  return !after.empty() && after[0] >= '0' && after[0] <= '9' ? VirtiofsdKind::rust : VirtiofsdKind::c_qemu;
}

VirtiofsdProgram find_virtiofsd(Deadline deadline) {
  const auto path = find_program("virtiofsd");
  if (path.empty())
    throw Error(ErrorCode::host_lacks, "the program virtiofsd is not installed",
                "sudo apt install qemu-system-common || sudo apt install virtiofsd");
  ProcessSpec spec;
  spec.argv = {path, "--version"};
  const auto result = run(spec, deadline);
  const auto& text = result.out.empty() ? result.err : result.out;
  constexpr std::size_t version_limit_bytes = 120;
  return {path, virtiofsd_kind(text),
          clean_guest_text(text.substr(0, text.find('\n')), Newlines::escape, version_limit_bytes)};
}

std::uint64_t virtiofsd_open_files() {
  rlimit files{};
  check_errno(::getrlimit(RLIMIT_NOFILE, &files), "RLIMIT_NOFILE");
  return has_capability(CAP_SYS_RESOURCE) ? open_files_limit : std::min(files.rlim_max, open_files_limit);
}

void check_shareable(const fs::path& folder, std::uint64_t limit) {
  std::uint64_t entries = 1;
  for (const auto& entry : fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied)) {
    static_cast<void>(entry);
    ++entries;
  }
  if (entries > limit)
    throw Error(ErrorCode::host_lacks,
                fmt::format("the workspace has {} files and folders, and a program may hold {} open on this host (hard "
                            "limit nofile): the guest could not read them all through virtiofs",
                            entries, limit),
                "agentvm start --workspace disk, or raise nofile in /etc/security/limits.conf");
}

std::vector<std::string> virtiofsd_arguments(const VirtiofsdProgram& program, const fs::path& folder, int listen_fd) {
  const auto fd = fmt::format("--fd={}", listen_fd);
  if (program.kind == VirtiofsdKind::rust)
    return {program.path.string(),
            fd,
            "--shared-dir=" + folder.string(),
            "--sandbox=namespace",
            "--seccomp=kill",
            "--cache=auto",
            "--inode-file-handles=never",
            "--thread-pool-size=0",
            "--rlimit-nofile=0",
            "--log-level=error"};
  // One thread: with its own pool the daemon loses time to hand-over for the small requests of a source tree.
  return {
      program.path.string(),
      fd,
      "-f",
      "--thread-pool-size=0",
      "--rlimit-nofile=0",
      "-o",
      fmt::format("source={},sandbox=namespace,cache=auto,no_xattr,no_posix_acl,no_flock,no_posix_lock,log_level=err",
                  folder.string())};
}

VirtiofsDaemon& VirtiofsDaemon::operator=(VirtiofsDaemon&& other) noexcept {
  std::swap(identity_, other.identity_);
  return *this;
}

VirtiofsDaemon::~VirtiofsDaemon() {
  if (identity_.pid <= 0) return;
  try {
    stop_virtiofsd(identity_, Deadline::after(milliseconds(2000)));
  } catch (const std::exception& error) {
    log::error("virtiofs", "ending virtiofsd {}: {}", identity_.pid, error.what());
  }
}

VirtiofsDaemon start_virtiofsd(const VirtiofsSpec& spec, Deadline deadline) {
  orphans().reap();
  check_socket_path(spec.socket);
  const auto program = find_virtiofsd(deadline);
  if (!fs::is_directory(spec.folder))
    throw Error(ErrorCode::not_found, fmt::format("the shared folder {} is missing", spec.folder.string()));
  const auto folder = fs::canonical(spec.folder).string();
  const auto target = mount_point().string();
  unsigned long flags = kept_mount_flags(folder) | MS_NOSUID | MS_NODEV;
  if (spec.access == VirtiofsSpec::Access::read_only) flags |= MS_RDONLY;

  auto listener = listen_unix(spec.socket, 1);
  set_nonblocking(listener.get(), false);  // the daemon accepts at once and takes "no connection yet" for a failure
  auto output = make_pipe();
  ProcessSpec process;
  process.argv = virtiofsd_arguments(program, target, listen_fd_in_child);
  process.env = std::map<std::string, std::string>{
      {"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"}};  // nothing of ours can be read in its /proc/PID/environ
  process.fds = {{listen_fd_in_child, listener.get()}, {1, output.second.get()}, {2, output.second.get()}};
  process.cwd = "/";
  process.new_session = true;
  process.in_child = set_limits;
  const auto share = [&folder, &target, flags] {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return errno;
    if (::mount(folder.c_str(), target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) < 0) return errno;
    if (::mount(nullptr, target.c_str(), nullptr, MS_BIND | MS_REMOUNT | flags, nullptr) < 0) return errno;
    return refuse_instant_growth();
  };
  try {
    start_log_writer(spec.log, std::move(output.first));
    auto started = spawn_mapped(std::move(process), spec.map, deadline, share);
    const ProcessIdentity identity{started.pid(), process_start_ticks(started.pid())};
    orphans().add(std::move(started));
    return VirtiofsDaemon(identity);
  } catch (Error& error) {
    ::unlink(spec.socket.c_str());
    error.while_doing("sharing " + folder);
    throw;
  }
}

void stop_virtiofsd(const ProcessIdentity& identity, Deadline deadline) {
  const auto process = open_process(identity);
  if (process.same) {
    auto waiting = open_children(identity.pid);
    waiting.push_back(duplicate(process.pidfd.get()));
    for (const auto& fd : waiting) ::syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0);
    for (const auto& fd : waiting)
      if (!wait_for(fd.get(), POLLIN, deadline))
        throw Error(ErrorCode::timed_out, fmt::format("virtiofsd (pid {}) does not end", identity.pid),
                    fmt::format("ps -p {}", identity.pid));
  }
  orphans().reap();
}

bool virtiofsd_runs(const ProcessIdentity& identity) {
  return open_process(identity).same;
}

}  // namespace agentvm
