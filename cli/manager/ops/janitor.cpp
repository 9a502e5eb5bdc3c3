#include "cli/manager/ops/janitor.hpp"

#include "vmm/base/log.hpp"

namespace agentvm::manager {

Janitor::Janitor() : thread_([this] { run(); }) {}

Janitor::~Janitor() {
  stop();
}

void Janitor::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Janitor::post(std::string what, std::function<void()> task) {
  post_later(milliseconds(0), std::move(what), std::move(task));
}

void Janitor::post_later(milliseconds pause, std::string what, std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.emplace(std::chrono::steady_clock::now() + pause, Task{std::move(what), std::move(task)});
  }
  changed_.notify_one();
}

void Janitor::run() {
  for (;;) {
    std::unique_lock lock(mutex_);
    while (!stopping_ && (tasks_.empty() || tasks_.begin()->first > std::chrono::steady_clock::now())) {
      if (tasks_.empty())
        changed_.wait(lock);
      else
        changed_.wait_until(lock, tasks_.begin()->first);
    }
    if (stopping_) return;
    const auto task = std::move(tasks_.begin()->second);
    tasks_.erase(tasks_.begin());
    lock.unlock();
    try {
      task.run();
    } catch (const std::exception& problem) {
      log::error("janitor", "{}: {}", task.what, problem.what());
    }
  }
}

}  // namespace agentvm::manager
