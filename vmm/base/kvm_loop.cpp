#include "vmm/base/kvm_loop.hpp"

#include <cerrno>
#include <cstddef>
#include <cstring>

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

namespace agentvm {
namespace {

constexpr std::size_t memory_bytes = 0x10000;
// Guest-physical layout: three page tables of one page each, then the program.
constexpr std::uint64_t table4 = 0x1000, table3 = 0x2000, table2 = 0x3000, code_start = 0x4000;

bool fail(KvmLoopReport& report, const char* call) {
  std::strncpy(report.failed, call, sizeof report.failed - 1);
  report.error_number = errno;
  return false;
}

std::int64_t now_nanoseconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

/// The program behind page tables that map the first 2 MiB to themselves.
void write_guest(unsigned char* memory, KvmProgram wanted, std::uint32_t turns) {
  const auto entry = [&](std::uint64_t at, std::uint64_t value) { std::memcpy(memory + at, &value, sizeof value); };
  entry(table4, table3 | 3);  // present, writable
  entry(table3, table2 | 3);
  entry(table2, 0 | 0x83);  // and a large page
  // mov ecx, turns; loop: [out 0x10, al;] dec ecx; jnz loop; hlt
  unsigned char count[] = {0xb9, 0, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xf4};
  unsigned char exits[] = {0xb9, 0, 0, 0, 0, 0xe6, 0x10, 0xff, 0xc9, 0x75, 0xfa, 0xf4};
  std::memcpy(count + 1, &turns, sizeof turns);
  std::memcpy(exits + 1, &turns, sizeof turns);
  if (wanted == KvmProgram::count)
    std::memcpy(memory + code_start, count, sizeof count);
  else
    std::memcpy(memory + code_start, exits, sizeof exits);
}

/// Gives it all that this host has: of a processor that was told of no feature newer kernels (seen: 6.12) do not
/// believe long mode.
bool give_features(int kvm, int vcpu, KvmLoopReport& report) {
  constexpr std::uint32_t limit = 256;  // KVM_MAX_CPUID_ENTRIES; a host has some tens
  // As C sees kvm_cpuid2: to C++ the header's empty array is a byte, which makes the numbers of these calls others.
  struct {
    std::uint32_t count = limit, padding = 0;
    kvm_cpuid_entry2 entries[limit] = {};
  } features;
  constexpr unsigned head_bytes = 8;
  constexpr auto get = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, head_bytes),
                 set = _IOC(_IOC_WRITE, KVMIO, 0x90, head_bytes);
  static_assert(offsetof(decltype(features), entries) == head_bytes);
  if (::ioctl(kvm, get, &features) < 0) return fail(report, "KVM_GET_SUPPORTED_CPUID");
  return ::ioctl(vcpu, set, &features) == 0 || fail(report, "KVM_SET_CPUID2");
}

bool enter_long_mode(int vcpu, KvmLoopReport& report) {
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
  registers.rip = code_start;
  registers.rflags = 2;
  return ::ioctl(vcpu, KVM_SET_REGS, &registers) == 0 || fail(report, "KVM_SET_REGS");
}

bool run_loop(KvmProgram wanted, std::uint32_t turns, KvmLoopReport& report) {
  const int kvm = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) return fail(report, "opening /dev/kvm");
  const int machine = ::ioctl(kvm, KVM_CREATE_VM, 0);
  if (machine < 0) return fail(report, "KVM_CREATE_VM");
  if (::ioctl(machine, KVM_SET_TSS_ADDR, 0xfffbd000UL) < 0) return fail(report, "KVM_SET_TSS_ADDR");
  void* memory = ::mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail(report, "mmap");
  write_guest(static_cast<unsigned char*>(memory), wanted, turns);
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
  if (!give_features(kvm, vcpu, report) || !enter_long_mode(vcpu, report)) return false;
  const auto began = now_nanoseconds();
  const auto* state = static_cast<const volatile kvm_run*>(raw);
  int result;
  do result = ::ioctl(vcpu, KVM_RUN, 0);
  while (result < 0 ? errno == EINTR || errno == EAGAIN : state->exit_reason == KVM_EXIT_IO);
  report.nanoseconds = now_nanoseconds() - began;
  report.exit_reason = state->exit_reason;
  return result == 0 || fail(report, "KVM_RUN");
}

}  // namespace

KvmLoopReport run_kvm_loop(KvmProgram program, std::uint32_t turns) {
  KvmLoopReport report;
  run_loop(program, turns, report);
  return report;
}

std::int64_t count_here(std::uint32_t turns) {
  const auto began = now_nanoseconds();
  asm volatile("1: decl %0\n\tjnz 1b" : "+r"(turns) : : "cc");
  return now_nanoseconds() - began;
}

}  // namespace agentvm
