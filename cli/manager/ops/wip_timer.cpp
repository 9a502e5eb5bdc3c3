#include "cli/manager/ops/wip_timer.hpp"

#include <algorithm>

#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr unsigned longest_pause_seconds = 3600;

std::chrono::seconds pause_of(unsigned interval_seconds, unsigned failures) {
  const auto doubled = static_cast<std::uint64_t>(interval_seconds) << std::min(failures, 12u);
  return std::chrono::seconds(std::min<std::uint64_t>(doubled, std::max(interval_seconds, longest_pause_seconds)));
}

}  // namespace

WipTimer::WipTimer(Work work, milliseconds step) : work_(std::move(work)), step_(step), thread_([this] { run(); }) {}

WipTimer::~WipTimer() {
  stop();
}

void WipTimer::begin_stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

void WipTimer::stop() {
  begin_stop();
  if (thread_.joinable()) thread_.join();
}

bool WipTimer::wait_idle(const SandboxName& name, Deadline deadline) {
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline.at(), [&] { return busy_ != name.str(); });
}

void WipTimer::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, step_, [this] { return stopping_; })) return;
    }
    look();
  }
}

void WipTimer::look() {
  std::vector<std::pair<SandboxName, unsigned>> running;
  try {
    running = work_.due_list();
  } catch (const std::exception& problem) {
    return log::warn("wip", "looking for running sandboxes: {}", problem.what());
  }
  std::map<std::string, Entry> present;
  for (const auto& [name, interval] : running) {
    if (interval == 0) continue;
    const auto known = entries_.find(name.str());
    present[name.str()] =
        known != entries_.end() ? known->second : Entry{std::chrono::steady_clock::now() + pause_of(interval, 0), 0};
  }
  entries_ = std::move(present);
  for (const auto& [name, interval] : running) {
    const auto entry = entries_.find(name.str());
    if (entry == entries_.end() || entry->second.due > std::chrono::steady_clock::now()) continue;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      busy_ = name.str();
    }
    try {
      work_.snapshot(name);
      entry->second.failures = 0;
    } catch (const std::exception& problem) {
      // The first of a row is news; a guest that hangs would fill the log.
      if (entry->second.failures++ == 0) log::warn("wip", "{}", problem.what());
    }
    entry->second.due = std::chrono::steady_clock::now() + pause_of(interval, entry->second.failures);
    {
      const std::lock_guard lock(mutex_);
      busy_.clear();
    }
    changed_.notify_all();
  }
}

}  // namespace agentvm::manager
