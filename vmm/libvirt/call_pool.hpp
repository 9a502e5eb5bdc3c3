#pragma once
// Calls that may block for longer than their caller can wait: run on a few threads of our own, waited for by deadline.

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::libvirt {

/// A bounded pool. A call that misses its deadline keeps its thread until it returns; its result is dropped, or undone.
/// Work must own everything it touches (the caller may be gone). Thread-safe.
class CallPool {
 public:
  /// `on_thread` runs first on each thread.
  explicit CallPool(unsigned thread_count, std::function<void()> on_thread = {});
  /// Drops calls that have not begun; waits two seconds for the others, then leaves them to end by themselves.
  ~CallPool();
  CallPool(const CallPool&) = delete;
  CallPool& operator=(const CallPool&) = delete;

  /// Runs `work` and returns its result or throws its error. Past the deadline: `timed_out`, naming `what`; then a call
  /// that has not begun never begins, and one that succeeds late is taken back by `undo(result)`.
  template <class Work, class Result = std::invoke_result_t<Work>>
  Result call(const std::string& what, Deadline deadline, Work work,
              std::type_identity_t<std::function<void(Result&)>> undo = {}) {
    // A quick call would else finish before the wait looks at the time.
    if (deadline.expired()) throw Error(ErrorCode::timed_out, what + ": no time is left", "agentvm doctor");
    auto slot = std::make_shared<Slot<Result>>();
    submit([slot, work = std::move(work), undo = std::move(undo)] { slot->run(work, undo); });
    return slot->wait(what, deadline);
  }

 private:
  template <class Result>
  struct Slot {
    std::mutex mutex;
    std::condition_variable done_changed;
    bool done = false, abandoned = false;
    std::optional<Result> result;
    std::exception_ptr error;

    template <class Work>
    void run(const Work& work, const std::function<void(Result&)>& undo) {
      {
        const std::lock_guard lock(mutex);
        if (abandoned) return;
      }
      std::optional<Result> made;
      std::exception_ptr problem;
      try {
        made.emplace(work());
      } catch (...) {
        problem = std::current_exception();
      }
      std::unique_lock lock(mutex);
      if (abandoned) {
        lock.unlock();
        if (made && undo) undo(*made);
        return;
      }
      result = std::move(made);
      error = problem;
      done = true;
      done_changed.notify_all();
    }

    Result wait(const std::string& what, Deadline deadline) {
      std::unique_lock lock(mutex);
      const auto is_done = [this] { return done; };
      if (deadline.at() == SteadyTime::max())
        done_changed.wait(lock, is_done);
      else if (!done_changed.wait_until(lock, deadline.at(), is_done)) {
        abandoned = true;
        throw Error(ErrorCode::timed_out, what + " did not finish in time", "agentvm doctor");
      }
      if (error) std::rethrow_exception(error);
      return std::move(*result);
    }
  };

  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> queue;
    bool stopping = false;
    unsigned running_threads = 0;
  };

  void submit(std::function<void()> job);
  static void work_off(const std::shared_ptr<Shared>& shared);

  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::vector<std::thread> threads_;
};

}  // namespace agentvm::libvirt
