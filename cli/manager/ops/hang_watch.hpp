#pragma once
// Emulated machines that hang while they boot.

#include <atomic>
#include <thread>

#include "cli/manager/ops/core.hpp"

namespace agentvm::manager {

/// Ends an emulated machine whose CPUs hang, and so every wait for it, long before its deadline: QEMU's multi-threaded
/// TCG (seen with 7.2) loses a guest now and then with nothing wrong in it. Does nothing for others. Not thread-safe.
class HangWatch {
 public:
  HangWatch(Core& core, const SandboxRecord& record, std::shared_ptr<Hypervisor> hypervisor);
  /// Stops watching; returns whether it ended the machine.
  bool end();

 private:
  void run(const std::stop_token& stop);

  Core& core_;
  const SandboxName name_;
  const std::string domain_;
  const std::shared_ptr<Hypervisor> hypervisor_;
  std::atomic<bool> found_ = false;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace agentvm::manager
