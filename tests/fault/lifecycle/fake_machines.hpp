#pragma once
// The fake hypervisor with a guest in each of its machines: a process (see fake_guest.cpp) that is stopped while the
// machine is paused, and whose end is the machine's.

#include <thread>

#include "tests/support/fake_hypervisor.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::test {

class FakeMachines : public FakeHypervisor {
 public:
  /// `guest`: the program.
  explicit FakeMachines(std::string guest) : guest_(std::move(guest)) {}
  ~FakeMachines() override;

  void start(const MachineSpec& spec, Start mode, Deadline deadline) override;
  void stop(const std::string& domain, Deadline deadline) override;
  void request_shutdown(const std::string& domain, Deadline deadline) override;
  void pause(const std::string& domain, Deadline deadline) override;
  void resume(const std::string& domain, Deadline deadline) override;

  /// Machines that run or are paused.
  std::size_t count() { return list(Deadline::never()).size(); }

 private:
  struct Guest {
    Process process;
    std::jthread waiter;
  };
  void end(const std::string& domain);
  void signal(const std::string& domain, int number);

  const std::string guest_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Guest>> guests_;  // guarded by mutex_
};

}  // namespace agentvm::test
