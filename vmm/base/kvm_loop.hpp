#pragma once
// The smallest honest question to KVM: what do a counted loop in 64-bit mode, and an exit to us, take?

#include <cstdint>

namespace agentvm {

enum class KvmProgram {
  count,  ///< counts down: what the virtual processor does by itself
  exits,  ///< writes to a port in every turn: what it takes to leave it and come back
};

/// What was measured. A plain value, so that a child can send it as bytes.
struct KvmLoopReport {
  char failed[32] = {};  ///< the call that failed, or empty
  int error_number = 0;
  std::uint32_t exit_reason = 0;  ///< KVM_EXIT_*; KVM_EXIT_HLT when the program ran to its end
  std::int64_t nanoseconds = 0;  ///< of this thread's processor time, so that a busy host does not look like a slow KVM
};

/// Runs `turns` turns of `program` in a virtual machine of our own, which ends with the process. Makes system calls
/// only: may run after fork. It has no deadline: run it where it can be killed.
KvmLoopReport run_kvm_loop(KvmProgram program, std::uint32_t turns);

/// As many turns of the counted loop on this processor itself, in nanoseconds.
std::int64_t count_here(std::uint32_t turns);

}  // namespace agentvm
