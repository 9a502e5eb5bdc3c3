#include "guest/agent/token_waiters.hpp"

#include <algorithm>

#include "guest/protocol/frame.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr milliseconds wait_limit{600'000};
constexpr std::size_t token_limit_bytes = 64;

}  // namespace

void TokenWaiters::add(std::uint32_t id, const Json& request) {
  const auto known = value_or<std::string>(request, "known", "");
  const milliseconds timeout{
      std::clamp<std::int64_t>(value_or<std::int64_t>(request, "timeout_ms", 0), 0, wait_limit.count())};
  if (known.size() > token_limit_bytes) throw Error(ErrorCode::usage, std::string(what_) + ": the token is too long");
  if (waiters_.size() >= token_waiter_limit)
    throw Error(ErrorCode::operation_failed, std::string(what_) + ": too many waits at once");
  waiters_.push_back({id, known, Deadline::after(timeout)});
}

void TokenWaiters::cancel(std::uint32_t id) {
  std::erase_if(waiters_, [id](const Waiter& waiter) { return waiter.id == id; });
}

void TokenWaiters::settle(const std::string& token, const std::function<void(std::uint32_t id)>& answer) {
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    const bool over = token != waiter->known || waiter->deadline.expired();
    if (over) answer(waiter->id);
    waiter = over ? waiters_.erase(waiter) : waiter + 1;
  }
}

Deadline TokenWaiters::next() const {
  auto least = Deadline::after(wait_limit);
  for (const auto& waiter : waiters_) least = least.sooner(waiter.deadline);
  return least;
}

}  // namespace agentvm::guest::agent
