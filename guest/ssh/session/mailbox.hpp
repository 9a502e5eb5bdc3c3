#pragma once
// How other threads reach the one thread that may call libssh: a queue of tasks, and answers with a deadline.

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::guest {

/// Tasks for the session's thread, with an eventfd to wake it. Thread-safe.
class Mailbox {
 public:
  Mailbox();
  /// False, and `task` is dropped, once the mailbox is closed.
  bool post(std::function<void()> task);
  /// What was posted since the last call; resets the eventfd.
  std::vector<std::function<void()>> take();
  /// Drops what waits and refuses everything from now on.
  void close();
  int fd() const { return event_.get(); }

 private:
  UniqueFd event_;
  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;  // guarded by mutex_
  bool closed_ = false;                       // guarded by mutex_
};

/// One answer from the session's thread to one waiting caller, or to a callback. When the last task that could answer
/// is gone, `wait` must not hang: whoever drops such a task calls `fail`. A callback is told then by itself.
template <class T>
class Answer {
 public:
  using Callback = std::function<void(T value, const Error* error)>;
  Answer() = default;
  /// Nobody waits: `callback` gets the answer, once, on the thread that gives it.
  explicit Answer(Callback callback) : callback_(std::move(callback)) {}
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;
  ~Answer() {
    if (!callback_) return;
    const Error error(ErrorCode::operation_failed, "the connection to the guest is gone");
    callback_(T{}, &error);
  }

  void set(T value) {
    std::unique_lock lock(mutex_);
    if (error_ || value_) return;
    if (const auto callback = std::exchange(callback_, nullptr)) {
      lock.unlock();
      return callback(std::move(value), nullptr);
    }
    value_ = std::move(value);
    ready_.notify_all();
  }
  void fail(Error error) {
    std::unique_lock lock(mutex_);
    if (error_ || value_) return;
    if (const auto callback = std::exchange(callback_, nullptr)) {
      lock.unlock();
      return callback(T{}, &error);
    }
    error_ = std::move(error);
    ready_.notify_all();
  }
  /// The value; throws what `fail` was given. Nothing when the deadline passed first.
  std::optional<T> wait(Deadline deadline) {
    std::unique_lock lock(mutex_);
    const auto done = [this] { return value_.has_value() || error_.has_value(); };
    if (deadline.remaining() == milliseconds::max())
      ready_.wait(lock, done);
    else if (!ready_.wait_until(lock, deadline.at(), done))
      return std::nullopt;
    if (error_) throw *error_;
    return std::move(value_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  Callback callback_;           // guarded by mutex_
  std::optional<T> value_;      // guarded by mutex_
  std::optional<Error> error_;  // guarded by mutex_
};

}  // namespace agentvm::guest
