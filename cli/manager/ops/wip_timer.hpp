#pragma once
// Keeps uncommitted work of running guests on the host, every `wip.interval_seconds`: one thread, one guest at a time.

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/names.hpp"

namespace agentvm::manager {

/// Thread-safe.
class WipTimer {
 public:
  struct Work {
    /// The sandboxes that run now, each with its interval; 0 seconds: none.
    std::function<std::vector<std::pair<SandboxName, unsigned>>()> due_list;
    /// Takes one snapshot; what it throws is logged.
    std::function<void(const SandboxName&)> snapshot;
  };
  /// Looks every `step`. A sandbox's first snapshot comes one interval after it was first seen running; after a failure
  /// the pause doubles, up to an hour.
  explicit WipTimer(Work work, milliseconds step = milliseconds(1'000));
  ~WipTimer();
  WipTimer(const WipTimer&) = delete;
  WipTimer& operator=(const WipTimer&) = delete;

  /// Returns once no snapshot of this sandbox is being taken; false when the deadline passed first. For whoever is
  /// about to remove its folder.
  bool wait_idle(const SandboxName& name, Deadline deadline);
  /// None starts any more; the one that runs goes on.
  void begin_stop();
  /// `begin_stop`, and waits for the one that runs.
  void stop();

 private:
  struct Entry {
    SteadyTime due;
    unsigned failures = 0;
  };
  void run();
  void look();

  const Work work_;
  const milliseconds step_;
  std::mutex mutex_;  // guards busy_ and stopping_
  std::condition_variable changed_;
  std::string busy_;  ///< the sandbox that is worked on
  bool stopping_ = false;
  std::map<std::string, Entry> entries_;  // of the thread alone
  std::thread thread_;
};

}  // namespace agentvm::manager
