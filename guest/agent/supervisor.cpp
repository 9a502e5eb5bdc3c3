#include "guest/agent/supervisor.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <new>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/adopt.hpp"
#include "guest/agent/apply.hpp"
#include "guest/agent/console.hpp"
#include "guest/agent/machine.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr milliseconds restart_pause{1000};
constexpr milliseconds ask_patience{20'000};

void write_oom_score(const char* score) {
  const UniqueFd fd(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (fd) [[maybe_unused]]
    const auto ignored = ::write(fd.get(), score, std::char_traits<char>::length(score));
}

/// systemd stops its services first; where it cannot be asked or does not come to an end in time, the kernel does it.
void power_off(milliseconds patience) {
  if (::fork() != 0) return;
  ::setsid();
  try {
    ProcessSpec spec;
    spec.argv = {"systemctl", "poweroff", "--no-block"};
    run_checked(spec, Deadline::after(ask_patience));
    ::sleep(static_cast<unsigned>(patience.count() / 1000));
  } catch (const Error& error) {
    say("power off: {}", error.what());
  }
  power_off_now();
}

/// What a worker tells those after it, and the supervisor: all share the page.
struct Adoption {
  std::atomic<bool> waiting;
  std::atomic<WorkspaceKind> workspace;
};
Adoption* adoption = nullptr;  // set before the first worker is forked

[[noreturn]] void work(Server& server) {
  try {
    for (;;) server.run(Deadline::never());
  } catch (const std::exception& error) {
    say("agent: {}", error.what());
  }
  ::_exit(1);
}

}  // namespace

void start_kvm(const NestedLimits& limits) {
  const pid_t pid = ::fork();
  if (pid != 0) return;
  try {
    const auto module = kvm_module();
    if (!module) throw Error(ErrorCode::host_lacks, "the virtual processor offers neither svm nor vmx");
    ProcessSpec spec;
    spec.argv = {"/sbin/modprobe", *module};
    run_checked(spec, Deadline::after(milliseconds(60'000)));
    wait_for_path("/dev/kvm", Deadline::after(milliseconds(5'000)));
    check_errno(::chown("/dev/kvm", 0, agent_gid), "/dev/kvm");
    check_errno(::chmod("/dev/kvm", 0660), "/dev/kvm");
  } catch (const Error& error) {
    say("nested virtualisation is off: {}", error.what());
    ::_exit(0);
  }
  keep_nested_machines(limits);
}

void fill_running_options(ServerOptions& options) {
  options.transport = Transport::port;
  options.boot_id = boot_id();
  options.set_time = set_clock;
  options.power_off = power_off;
  options.adopt = [](const Identity& identity) {
    auto new_boot_id = adopt_identity("/", identity, machine_adoption());
    adoption->workspace = identity.workspace;
    adoption->waiting = false;
    return new_boot_id;
  };
  options.update = [](const Identity& identity) {
    if (identity.unix_ns != 0) set_clock(identity.unix_ns);
    set_hostname(identity.hostname);
    write_hostname("/", identity.hostname);
  };
}

void supervise(int port, Server& server, const std::optional<NestedLimits>& nested) {
  ::setsid();
  ::prctl(PR_SET_NAME, "agentvm-guest");
  ::signal(SIGPIPE, SIG_IGN);
  write_oom_score("-1000");
  say_to_kernel_log();
  if (nested) start_kvm(*nested);
  void* const page = ::mmap(nullptr, sizeof(Adoption), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw_errno("sharing memory with the workers");
  adoption = new (page) Adoption{{server.waits()}, {server.workspace()}};
  bool first = true;
  for (;;) {
    const pid_t worker = ::fork();
    if (worker == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // two readers of one port would each get half
      if (first) work(server);
      ServerOptions options;
      fill_running_options(options);
      Server fresh(port, std::move(options));
      if (adoption->waiting)
        fresh.set_waiting();
      else
        fresh.set_running(adoption->workspace);
      fresh.send_event({{"event", "restarted"}}, milliseconds(1000));
      work(fresh);
    }
    first = false;
    for (int status = 0;;) {
      const pid_t ended = ::waitpid(-1, &status, 0);
      if (ended == worker || (ended < 0 && errno != EINTR)) break;
    }
    say("the agent's worker ended; starting another");
    ::usleep(static_cast<useconds_t>(restart_pause.count() * 1000));
  }
}

}  // namespace agentvm::guest::agent
