#pragma once
// The Hypervisor port in memory. Runs the same contract suite as the real adapters.

#include <map>
#include <mutex>

#include "vmm/hypervisor.hpp"

namespace agentvm::test {

/// Thread-safe. Checks the specification like the real ones.
class FakeHypervisor : public Hypervisor {
 public:
  std::string uri() const override { return "fake:///"; }
  std::set<HypervisorCapability> capabilities() const override { return {HypervisorCapability::events}; }
  void start(const MachineSpec& spec, Start mode, Deadline deadline) override;
  void stop(const std::string& domain, Deadline deadline) override;
  void request_shutdown(const std::string& domain, Deadline deadline) override;
  void pause(const std::string& domain, Deadline deadline) override;
  void resume(const std::string& domain, Deadline deadline) override;
  std::optional<DomainInfo> find(const std::string& domain, Deadline deadline) override;
  std::vector<DomainInfo> list(Deadline deadline) override;
  void save_state(const std::string& domain, const MachineState& into, Deadline deadline) override;
  void load_state(const std::string& domain, const MachineState& from, Deadline deadline) override;
  void plug(const std::string& domain, const ShareSpec& share, Deadline deadline) override;
  std::optional<int> pid(const std::string& domain, Deadline deadline) override;
  void on_event(std::function<void(const Event&)> callback) override;

  /// The machine ends by itself, as after kill -9 of its process.
  void crash(const std::string& domain);
  /// The guest powered itself off; nothing when it is gone already.
  void power_off(const std::string& domain);
  /// The `nth` call from now on (1 = the next) throws `operation_failed` and changes nothing; 0 = none. Counts every
  /// verb.
  void fail_call(unsigned nth);
  /// Verbs called so far, in order: "start avm-1", "stop avm-1".
  std::vector<std::string> calls() const;
  /// What a running machine was started with.
  MachineSpec spec_of(const std::string& domain) const;

 private:
  struct Machine {
    MachineSpec spec;
    DomainState state;
  };
  void enter(const std::string& verb, const std::string& domain, Deadline deadline);
  Machine& need(const std::string& domain);
  void emit(const std::string& domain, Event::Kind kind);

  mutable std::mutex mutex_;
  std::map<std::string, Machine> machines_;  // guarded by mutex_, like the two below
  std::vector<std::string> calls_;
  unsigned calls_until_failure_ = 0;
  std::mutex events_;                           // taken without mutex_
  std::function<void(const Event&)> callback_;  // guarded by events_
};

}  // namespace agentvm::test
