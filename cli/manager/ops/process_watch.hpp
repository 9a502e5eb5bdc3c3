#pragma once
// Tells when a process that is not (or no longer) our child ends: one thread, one poll over pidfds.

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include <sys/types.h>

#include "vmm/base/fd.hpp"

namespace agentvm::manager {

/// Thread-safe. Callbacks run on the watch's own thread, once per process, and must not block.
class ProcessWatch {
 public:
  ProcessWatch();
  ~ProcessWatch();
  ProcessWatch(const ProcessWatch&) = delete;
  ProcessWatch& operator=(const ProcessWatch&) = delete;

  /// Watches `pid` under `key` (replacing what the key had). False when no such process with these start ticks lives:
  /// the caller decides what that means. A child of ours is reaped when it ends.
  bool add(const std::string& key, pid_t pid, unsigned long long start_ticks, std::function<void()> on_exit);
  /// Forgets the key; its callback may still be running when this returns.
  void remove(const std::string& key);

 private:
  struct Entry {
    pid_t pid;
    UniqueFd pidfd;
    std::function<void()> on_exit;
  };
  void run();
  void wake();

  std::mutex mutex_;  // guards entries_ and stopping_
  std::map<std::string, Entry> entries_;
  bool stopping_ = false;
  FdPair wake_;
  std::thread thread_;
};

}  // namespace agentvm::manager
