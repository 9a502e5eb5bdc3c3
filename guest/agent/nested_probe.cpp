#include "guest/agent/nested_probe.hpp"

#include <linux/kvm.h>
#include <unistd.h>

#include "vmm/base/clock.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/kvm_loop.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr milliseconds device_limit{5'000}, device_pause{50};
constexpr std::uint32_t turns = 1'000'000;  // a fifth of a second where KVM runs in an emulator
constexpr std::uint32_t exits = 1'000;

Json refusal(const std::string& reason) {
  return {{"ran", false}, {"reason", reason}};
}

}  // namespace

Json probe_nested() {
  const auto deadline = Deadline::after(device_limit);
  while (::access("/dev/kvm", R_OK | W_OK) != 0 && !deadline.expired()) system_clock().sleep(device_pause);
  const auto counted = run_kvm_loop(KvmProgram::count, turns);
  if (counted.failed[0]) return refusal(std::string(counted.failed) + ": " + errno_text(counted.error_number));
  if (counted.exit_reason != KVM_EXIT_HLT)
    return refusal("the virtual machine stopped with reason " + std::to_string(counted.exit_reason));
  const auto left = run_kvm_loop(KvmProgram::exits, exits);
  if (left.failed[0] || left.exit_reason != KVM_EXIT_HLT)
    return refusal("the virtual machine could not be left and entered again");
  return {{"ran", true},
          {"here_ns", count_here(turns)},
          {"inside_ns", counted.nanoseconds},
          {"exit_ns", left.nanoseconds / exits}};
}

}  // namespace agentvm::guest::agent
