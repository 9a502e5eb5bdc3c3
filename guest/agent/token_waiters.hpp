#pragma once
// Hosts that wait until something differs from what they know of it.

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "vmm/base/clock.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::guest::agent {

/// Not thread-safe.
class TokenWaiters {
 public:
  /// `what` names the operation in errors.
  explicit TokenWaiters(const char* what) : what_(what) {}
  /// From a request's `known` and `timeout_ms`. Throws `usage`, or `operation_failed` when too many wait.
  void add(std::uint32_t id, const Json& request);
  bool empty() const { return waiters_.empty(); }
  void clear() { waiters_.clear(); }
  void cancel(std::uint32_t id);
  /// Calls `answer` with each that knows another token or whose time is over, and forgets it.
  void settle(const std::string& token, const std::function<void(std::uint32_t id)>& answer);
  /// When the first one's time is over; far away while none waits.
  Deadline next() const;

 private:
  struct Waiter {
    std::uint32_t id;
    std::string known;
    Deadline deadline;
  };
  const char* what_;
  std::deque<Waiter> waiters_;
};

}  // namespace agentvm::guest::agent
