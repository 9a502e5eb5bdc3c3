// Whether a /dev/kvm that opens also runs programs, and fast enough.

#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/accelerator/accelerator.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/kvm_loop.hpp"

namespace agentvm {
namespace {

constexpr double limit_microseconds_per_turn = 0.6;

AcceleratorEvidence judge(const KvmLoopReport& report, unsigned turns) {
  if (report.failed[0])
    return {"loop", false,
            fmt::format("/dev/kvm cannot run a program: {}: {}", report.failed, errno_text(report.error_number))};
  if (report.exit_reason != KVM_EXIT_HLT)
    return {"loop", false,
            fmt::format("/dev/kvm cannot run a 64-bit program: it stopped with reason {}", report.exit_reason)};
  const double microseconds = static_cast<double>(report.nanoseconds) / 1000.0 / turns;
  const auto finding = fmt::format("a turn of a counted loop takes {:.4f} microseconds (limit {})", microseconds,
                                   limit_microseconds_per_turn);
  if (microseconds > limit_microseconds_per_turn)
    return {"loop", false, "/dev/kvm emulates every instruction and is too slow for a kernel: " + finding};
  return {"loop", true, finding};
}

}  // namespace

AcceleratorEvidence probe_kvm_device(const std::filesystem::path& device) {
  const UniqueFd fd(::open(device.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) {
    const auto remedy = errno == EACCES ? "; sudo usermod -aG kvm $USER and a new login mend it" : "";
    return {"device", false, fmt::format("{} cannot be opened: {}{}", device.string(), errno_text(errno), remedy)};
  }
  const int version = ::ioctl(fd.get(), KVM_GET_API_VERSION, 0);
  if (version != KVM_API_VERSION)
    return {"device", false, fmt::format("{} is no KVM device (API version {})", device.string(), version)};
  return {"device", true, fmt::format("{} opens, API version {}", device.string(), version)};
}

AcceleratorEvidence probe_kvm_loop(Deadline deadline, unsigned turns) {
  auto pipe = make_pipe();
  const pid_t parent = ::getpid();
  const pid_t child = check_errno(::fork(), "fork");
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    const auto report = run_kvm_loop(KvmProgram::count, turns);
    [[maybe_unused]] const auto written = ::write(pipe.second.get(), &report, sizeof report);
    ::_exit(0);
  }
  pipe.second.reset();
  KvmLoopReport report;
  const bool in_time = wait_for(pipe.first.get(), POLLIN, deadline);
  const bool told = in_time && ::read(pipe.first.get(), &report, sizeof report) == sizeof report;
  ::kill(child, SIGKILL);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!in_time) return {"loop", false, fmt::format("/dev/kvm did not run {} turns of a loop in time", turns)};
  if (!told) return {"loop", false, "/dev/kvm made the trial program crash"};
  return judge(report, turns);
}

}  // namespace agentvm
