#include "tests/contract/virt/daemons.hpp"

#include <csignal>
#include <thread>

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/unix_socket.hpp"

namespace agentvm::test {
namespace {

constexpr const char* system_folders[] = {"/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/cache/libvirt",
                                          "/var/log/libvirt"};

// No virtlogd, no cgroup and no mount namespace of its own: nothing of the host's is asked for.
constexpr const char* qemu_conf = "stdio_handler = \"file\"\ncgroup_controllers = []\nnamespaces = []\n";
constexpr const char* daemon_conf = "auth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\nlog_outputs = \"2:stderr\"\n";

fs::path socket_of(Daemon::Scope scope) {
  if (scope == Daemon::Scope::system) return "/run/libvirt/libvirt-sock";
  return fs::path(std::getenv("XDG_RUNTIME_DIR")) / "libvirt/libvirt-sock";
}

fs::path qemu_conf_of(Daemon::Scope scope) {
  if (scope == Daemon::Scope::system) return "/etc/libvirt/qemu.conf";
  return fs::path(std::getenv("XDG_CONFIG_HOME")) / "libvirt/qemu.conf";
}

bool answers(const fs::path& socket) {
  try {
    connect_unix(socket, in_seconds(1));
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::string libvirt_daemon() {
  return find_program("libvirtd");
}

void hide_system_daemon(const fs::path& folder) {
  check_errno(::unshare(CLONE_NEWNS), "unshare");
  check_errno(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "making mounts private");
  for (const fs::path target : system_folders) {
    const auto source = folder / target.relative_path();
    fs::create_directories(source);
    fs::create_directories(target);
    check_errno(::mount(source.c_str(), target.c_str(), nullptr, MS_BIND, nullptr), "hiding " + target.string());
  }
}

void use_session_folders(const fs::path& folder) {
  ::setenv("HOME", folder.c_str(), 1);
  for (const char* name : {"XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"}) {
    const auto path = folder / name;
    ensure_private_dir(path);
    ::setenv(name, path.c_str(), 1);
  }
  // A user's libvirt starts the daemon that it misses; here it is the test who does.
  ::setenv("LIBVIRT_AUTOSTART", "0", 1);
}

namespace {
volatile pid_t reaped_program = 0;
}

int run_reaper(char** program) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    ::execv(program[0], program);
    ::_exit(127);
  }
  reaped_program = child;
  ::signal(SIGTERM, [](int) { ::kill(reaped_program, SIGTERM); });
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, 0);
    if (ended == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    if (ended < 0 && errno != EINTR) return 1;
  }
}

Daemon::~Daemon() {
  process_->terminate(milliseconds(20'000));
}

Daemon::Daemon(Scope scope, const fs::path& folder) {
  const auto configuration = folder / "libvirtd.conf", log = folder / "libvirtd.log";
  write_file_atomic(configuration, daemon_conf);
  fs::create_directories(qemu_conf_of(scope).parent_path());
  write_file_atomic(qemu_conf_of(scope), qemu_conf);
  const auto output = open_file(log, O_CREAT | O_WRONLY | O_APPEND);
  ProcessSpec spec;
  spec.argv = {"/proc/self/exe", "--reaper",   libvirt_daemon(),       "--config",
               configuration,    "--pid-file", folder / "libvirtd.pid"};
  spec.fds = {{1, output.get()}, {2, output.get()}};
  process_ = Process::spawn(spec);
  for (const auto deadline = in_seconds(60); !answers(socket_of(scope));
       std::this_thread::sleep_for(milliseconds(50))) {
    const auto ended = process_->wait(Deadline::after(milliseconds(0)));
    if (ended || deadline.expired())
      throw Error(
          ErrorCode::operation_failed,
          "libvirtd " + (ended ? ended->describe() : std::string("does not answer")) + ": " + read_tail(log, 2000));
  }
}

}  // namespace agentvm::test
