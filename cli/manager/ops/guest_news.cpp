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

}  // namespace agentvm::manager
