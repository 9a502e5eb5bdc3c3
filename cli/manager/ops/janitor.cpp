#include "cli/manager/ops/janitor.hpp"

#include <system_error>

#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds retry_pause{1'000};

}  // namespace

Janitor::Janitor() : time_keeper_([this] { keep_time(); }) {}

Janitor::~Janitor() {
  stop();
}

void Janitor::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (time_keeper_.joinable()) time_keeper_.join();
}

void Janitor::post(std::string lane, std::function<void()> task) {
  post_later(milliseconds(0), std::move(lane), std::move(task));
}

void Janitor::post_later(milliseconds pause, std::string lane, std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.emplace(std::chrono::steady_clock::now() + pause, Task{std::move(lane), std::move(task)});
  }
  changed_.notify_all();
}

/// Hands what is due to its lane's worker. The lock is held.
void Janitor::start_due() {
  while (!tasks_.empty() && tasks_.begin()->first <= std::chrono::steady_clock::now()) {
    const auto& lane = tasks_.begin()->second.lane;
    if (!workers_.contains(lane)) try {
        workers_.emplace(lane, std::thread([this, lane] { work(lane); }));
      } catch (const std::system_error& problem) {  // no more threads at the moment
        log::error("janitor", "{}: {}", lane, problem.what());
        auto delayed = tasks_.extract(tasks_.begin());
        delayed.key() = std::chrono::steady_clock::now() + retry_pause;
        tasks_.insert(std::move(delayed));
        continue;
      }
    due_[lane].push_back(std::move(tasks_.begin()->second.run));
    tasks_.erase(tasks_.begin());
  }
}

void Janitor::join_finished(std::unique_lock<std::mutex>& lock) {
  auto finished = std::move(finished_);
  finished_.clear();
  lock.unlock();
  for (auto& worker : finished) worker.join();
  lock.lock();
}

void Janitor::keep_time() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    start_due();
    if (!finished_.empty())
      join_finished(lock);
    else if (tasks_.empty())
      changed_.wait(lock);
    else
      changed_.wait_until(lock, tasks_.begin()->first);
  }
  while (!workers_.empty() || !finished_.empty()) {
    join_finished(lock);
    if (!workers_.empty() && finished_.empty()) changed_.wait(lock);
  }
}

/// Runs a lane's tasks until there are none. What they hold is let go without the lock: it may call back.
void Janitor::work(const std::string& lane) {
  std::unique_lock lock(mutex_);
  while (!stopping_ && !due_[lane].empty()) {
    auto run = std::move(due_[lane].front());
    due_[lane].pop_front();
    lock.unlock();
    try {
      run();
    } catch (const std::exception& problem) {
      log::error("janitor", "{}: {}", lane, problem.what());
    }
    run = {};
    lock.lock();
  }
  const auto dropped = due_.extract(lane);  // goes after the lock
  finished_.push_back(std::move(workers_.extract(lane).mapped()));
  changed_.notify_all();
  lock.unlock();
}

}  // namespace agentvm::manager
