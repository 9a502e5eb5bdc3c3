// The smallest honest question to KVM: how long does a turn of a counted loop take in 64-bit mode?

#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmm/accelerator/accelerator.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm {
namespace {

constexpr double limit_microseconds_per_turn = 0.6;
constexpr std::size_t memory_bytes = 0x10000;
// Guest-physical layout: three page tables of one page each, then the program.
constexpr std::uint64_t table4 = 0x1000, table3 = 0x2000, table2 = 0x3000, program = 0x4000;

/// What the child measured. `failed` names the call, or is empty.
struct LoopReport {
  char failed[32] = {};
  int error_number = 0;
  std::uint32_t exit_reason = 0;
  std::int64_t nanoseconds = 0;
};

bool fail(LoopReport& report, const char* call) {
  std::strncpy(report.failed, call, sizeof report.failed - 1);
  report.error_number = errno;
  return false;
}

/// This thread's processor time, so that a busy host does not look like a slow KVM.
std::int64_t now_nanoseconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

/// mov ecx, turns; loop: dec ecx; jnz loop; hlt - behind page tables that map the first 2 MiB to themselves.
void write_guest(unsigned char* memory, std::uint32_t turns) {
  const auto entry = [&](std::uint64_t at, std::uint64_t value) { std::memcpy(memory + at, &value, sizeof value); };
  entry(table4, table3 | 3);  // present, writable
  entry(table3, table2 | 3);
  entry(table2, 0 | 0x83);  // and a large page
  unsigned char code[] = {0xb9, 0, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xf4};
  std::memcpy(code + 1, &turns, sizeof turns);
  std::memcpy(memory + program, code, sizeof code);
}

bool enter_long_mode(int vcpu, LoopReport& report) {
  kvm_sregs special{};
  if (::ioctl(vcpu, KVM_GET_SREGS, &special) < 0) return fail(report, "KVM_GET_SREGS");
  kvm_segment code{};
  code.limit = 0xffffffff;
  code.selector = 8;
  code.type = 11;  // execute, read, accessed
  code.present = code.s = code.l = code.g = 1;
  kvm_segment data = code;
  data.selector = 16;
  data.type = 3;  // read, write, accessed
  data.l = 0;
  data.db = 1;
  special.cs = code;
  special.ds = special.es = special.fs = special.gs = special.ss = data;
  special.cr3 = table4;
  special.cr4 = 0x20;        // PAE
  special.cr0 = 0x80050033;  // paging, protection and their usual company
  special.efer = 0x500;      // long mode enabled and active
  if (::ioctl(vcpu, KVM_SET_SREGS, &special) < 0) return fail(report, "KVM_SET_SREGS");
  kvm_regs registers{};
  registers.rip = program;
  registers.rflags = 2;
  return ::ioctl(vcpu, KVM_SET_REGS, &registers) == 0 || fail(report, "KVM_SET_REGS");
}

/// Runs in the child after fork: system calls only.
bool run_loop(std::uint32_t turns, LoopReport& report) {
  const int kvm = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) return fail(report, "opening /dev/kvm");
  const int machine = ::ioctl(kvm, KVM_CREATE_VM, 0);
  if (machine < 0) return fail(report, "KVM_CREATE_VM");
  if (::ioctl(machine, KVM_SET_TSS_ADDR, 0xfffbd000UL) < 0) return fail(report, "KVM_SET_TSS_ADDR");
  void* memory = ::mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail(report, "mmap");
  write_guest(static_cast<unsigned char*>(memory), turns);
  kvm_userspace_memory_region region{};
  region.memory_size = memory_bytes;
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(memory);
  if (::ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region) < 0) return fail(report, "KVM_SET_USER_MEMORY_REGION");
  const int vcpu = ::ioctl(machine, KVM_CREATE_VCPU, 0);
  if (vcpu < 0) return fail(report, "KVM_CREATE_VCPU");
  const int run_bytes = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  void* raw = run_bytes > 0
                  ? ::mmap(nullptr, static_cast<std::size_t>(run_bytes), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0)
                  : MAP_FAILED;
  if (raw == MAP_FAILED) return fail(report, "mapping the virtual CPU");
  if (!enter_long_mode(vcpu, report)) return false;
  const auto began = now_nanoseconds();
  int result;
  do result = ::ioctl(vcpu, KVM_RUN, 0);
  while (result < 0 && (errno == EINTR || errno == EAGAIN));
  report.nanoseconds = now_nanoseconds() - began;
  report.exit_reason = static_cast<kvm_run*>(raw)->exit_reason;
  return result == 0 || fail(report, "KVM_RUN");
}

AcceleratorEvidence judge(const LoopReport& report, unsigned turns) {
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
    LoopReport report;
    run_loop(turns, report);
    [[maybe_unused]] const auto written = ::write(pipe.second.get(), &report, sizeof report);
    ::_exit(0);
  }
  pipe.second.reset();
  LoopReport report;
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
