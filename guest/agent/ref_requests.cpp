// The operation "refs": a token of the workspace's references, now or as soon as it differs from what the host knows.

#include <algorithm>

#include "guest/agent/server.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr milliseconds wait_limit{600'000};
constexpr const char* workspace_folder = "workspace";

}  // namespace

void Server::refs(std::uint32_t id, const Json& request) {
  const auto known = value_or<std::string>(request, "known", "");
  const milliseconds timeout{
      std::clamp<std::int64_t>(value_or<std::int64_t>(request, "timeout_ms", 0), 0, wait_limit.count())};
  if (known.size() > 64) throw Error(ErrorCode::usage, "refs: the token is too long");
  if (options_.stage == Stage::init)
    throw Error(ErrorCode::wrong_state, "refs: the guest's userspace is not there yet");
  if (ref_waiters_.size() >= ref_waiter_limit) throw Error(ErrorCode::operation_failed, "refs: too many waits at once");
  if (!refs_) refs_.emplace(options_.root / workspace_folder);
  ref_waiters_.push_back({id, known, Deadline::after(timeout)});
  refs_->look(std::chrono::steady_clock::now());
  check_refs();
}

void Server::check_refs() {
  if (ref_waiters_.empty()) return;
  const auto now = std::chrono::steady_clock::now();
  refs_->take_events(now);
  if (const auto next = refs_->next_look(); next && now >= *next) refs_->look(now);
  for (auto waiter = ref_waiters_.begin(); waiter != ref_waiters_.end();) {
    const bool over = refs_->token() != waiter->known || waiter->deadline.expired();
    if (over) answer(waiter->id, {{"token", refs_->token()}, {"whole", refs_->whole()}});
    waiter = over ? ref_waiters_.erase(waiter) : waiter + 1;
  }
}

milliseconds Server::ref_patience() const {
  auto least = Deadline::after(wait_limit);
  if (const auto next = refs_->next_look()) least = least.sooner(Deadline(*next));
  for (const auto& waiter : ref_waiters_) least = least.sooner(waiter.deadline);
  return least.remaining();
}

}  // namespace agentvm::guest::agent
