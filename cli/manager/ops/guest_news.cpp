#include "cli/manager/ops/guest_news.hpp"

#include <condition_variable>
#include <mutex>

#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds least_turn{100}, boot_pause{500}, retry_pause{5'000};

}  // namespace

void follow_news(const std::stop_token& stop, const guest::Control& control, const std::string& what,
                 const std::function<void()>& look) {
  std::mutex mutex;
  std::condition_variable_any changed;
  while (!stop.stop_requested()) {
    auto next = std::chrono::steady_clock::now() + least_turn;
    try {
      look();
    } catch (const Error& error) {
      if (stop.stop_requested() || !control.alive()) return;
      // "wrong_state" while the guest still boots; an image from before an operation never tells.
      log::debug("manager", "{}: {}", what, error.what());
      next = std::chrono::steady_clock::now() + (error.code() == ErrorCode::wrong_state ? boot_pause : retry_pause);
    }
    std::unique_lock lock(mutex);
    changed.wait_until(lock, stop, next, [] { return false; });
  }
}

void Followers::begin(const SandboxName& name, std::function<void(const std::stop_token&)> follow) {
  end(name);
  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  threads_[name.str()] = std::jthread([follow = std::move(follow)](const std::stop_token& stop) { follow(stop); });
}

void Followers::end(const SandboxName& name) {
  std::jthread ending;  // declared first: joined once the lock is let go
  const std::lock_guard lock(mutex_);
  if (const auto found = threads_.find(name.str()); found != threads_.end()) {
    ending = std::move(found->second);
    threads_.erase(found);
  }
}

void Followers::stop() {
  std::map<std::string, std::jthread> ending;  // joined outside the lock
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    ending.swap(threads_);
  }
  for (auto& [name, thread] : ending) thread.request_stop();
}

}  // namespace agentvm::manager
