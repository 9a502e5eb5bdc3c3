#pragma once
// Following what a guest's agent tells.

#include <functional>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "guest/control/control.hpp"
#include "vmm/base/names.hpp"

namespace agentvm::manager {

/// Calls `look`, which waits in the guest for news, again and again: until `stop`, or until the guest's agent is gone;
/// at most ten times a second, however fast a guest answers. `look` may throw: then it is called again after a pause,
/// short while the guest still boots. `what` is for the log.
void follow_news(const std::stop_token& stop, const guest::Control& control, const std::string& what,
                 const std::function<void()>& look);

/// A thread for each sandbox that is followed. Thread-safe; none may end itself.
class Followers {
 public:
  ~Followers() { stop(); }
  /// In place of what ran under this name; nothing after `stop`.
  void begin(const SandboxName& name, std::function<void(const std::stop_token&)> follow);
  /// Returns when it has ended.
  void end(const SandboxName& name);
  void stop();

 private:
  std::mutex mutex_;  // guards the members below
  std::map<std::string, std::jthread> threads_;
  bool stopped_ = false;
};

}  // namespace agentvm::manager
