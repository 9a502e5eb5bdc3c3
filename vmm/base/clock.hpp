#pragma once
// Time as a value: deadlines, and a clock that tests can turn by hand.

#include <chrono>
#include <cstdint>
#include <string>

namespace agentvm {

using SteadyTime = std::chrono::steady_clock::time_point;
using std::chrono::milliseconds;

/// A point on the steady clock by which a wait ends. Copyable, cheap; pass by value.
class Deadline {
 public:
  static Deadline after(milliseconds span);
  /// For waits that end by another event (a process's own deadline, a closed descriptor). Use sparingly.
  static Deadline never();
  explicit Deadline(SteadyTime at) : at_(at) {}

  bool expired() const;
  /// Never negative; `milliseconds::max()` for `never`.
  milliseconds remaining() const;
  /// For poll(2): -1 for `never`, else milliseconds rounded up.
  int poll_timeout() const;
  SteadyTime at() const { return at_; }
  /// The earlier of both.
  Deadline sooner(Deadline other) const { return at_ < other.at_ ? *this : other; }

 private:
  SteadyTime at_;
};

/// Where the time comes from. The real one is `system_clock()`; tests hand in a manual one.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual SteadyTime steady() = 0;
  /// Seconds since 1970, UTC.
  virtual std::int64_t unix_seconds() = 0;
  virtual void sleep(milliseconds span) = 0;
};
Clock& system_clock();

/// RFC 3339 in UTC: 2026-01-31T08:09:10Z.
std::string format_time(std::int64_t unix_seconds);
/// The inverse; throws `usage` on anything else.
std::int64_t parse_time(const std::string& text);

}  // namespace agentvm
