#pragma once
// What has to be cleaned up when nobody asked: a machine that ended by itself, a share that died, a lost connection.

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/clock.hpp"

namespace agentvm::manager {

/// Thread-safe. Tasks of one lane run one after the other, in order; lanes do not wait for each other, so that a guest
/// that keeps its own lane waiting keeps nobody else. A lane is named after what is done and to whom ("redial web").
/// What tasks throw is logged.
class Janitor {
 public:
  Janitor();
  /// Finishes the tasks that run, drops the others.
  ~Janitor();
  Janitor(const Janitor&) = delete;
  Janitor& operator=(const Janitor&) = delete;

  void post(std::string lane, std::function<void()> task);
  /// As `post`, after a pause.
  void post_later(milliseconds pause, std::string lane, std::function<void()> task);
  /// No task starts after this returned, and none runs.
  void stop();

 private:
  struct Task {
    std::string lane;
    std::function<void()> run;
  };
  void keep_time();
  void work(const std::string& lane);
  void start_due();
  void join_finished(std::unique_lock<std::mutex>& lock);
  std::mutex mutex_;  // guards the members below but the time-keeper
  std::condition_variable changed_;
  std::multimap<SteadyTime, Task> tasks_;                         // by when they are due; equal times keep their order
  std::map<std::string, std::deque<std::function<void()>>> due_;  // by lane; each of them has a worker
  std::map<std::string, std::thread> workers_;                    // by lane
  std::vector<std::thread> finished_;                             // workers to be joined
  bool stopping_ = false;
  std::thread time_keeper_;
};

}  // namespace agentvm::manager
