#pragma once
// One thread for what has to be cleaned up when nobody asked: a machine that ended by itself, a share that died, a lost
// connection.

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "vmm/base/clock.hpp"

namespace agentvm::manager {

/// Thread-safe. Tasks run one after the other, in order; what they throw is logged.
class Janitor {
 public:
  Janitor();
  /// Finishes the task that runs, drops the others.
  ~Janitor();
  Janitor(const Janitor&) = delete;
  Janitor& operator=(const Janitor&) = delete;

  void post(std::string what, std::function<void()> task);
  /// As `post`, after a pause.
  void post_later(milliseconds pause, std::string what, std::function<void()> task);
  /// No task starts after this returned.
  void stop();

 private:
  struct Task {
    std::string what;
    std::function<void()> run;
  };
  void run();
  std::mutex mutex_;  // guards the members below but the thread
  std::condition_variable changed_;
  std::multimap<SteadyTime, Task> tasks_;  // by when they are due; equal times keep their order
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace agentvm::manager
