// The operation "ports": what listens in the guest, now or as soon as it differs from what the host knows. The kernel
// tells nobody when a socket begins to listen, so it is asked twice a second, but only while a host waits.

#include <algorithm>

#include "guest/agent/server.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr milliseconds wait_limit{600'000};
constexpr milliseconds look_pause{500};

}  // namespace

void Server::ports(std::uint32_t id, const Json& request) {
  const auto known = value_or<std::string>(request, "known", "");
  const milliseconds timeout{
      std::clamp<std::int64_t>(value_or<std::int64_t>(request, "timeout_ms", 0), 0, wait_limit.count())};
  if (known.size() > 64) throw Error(ErrorCode::usage, "ports: the token is too long");
  if (options_.stage == Stage::init)
    throw Error(ErrorCode::wrong_state, "ports: the guest's userspace is not there yet");
  if (port_waiters_.size() >= port_waiter_limit)
    throw Error(ErrorCode::operation_failed, "ports: too many waits at once");
  if (!ports_) ports_.emplace(options_.root);
  port_waiters_.push_back({id, known, Deadline::after(timeout)});
  next_port_look_ = {};
  check_ports();
}

void Server::check_ports() {
  if (port_waiters_.empty()) return;
  const auto now = std::chrono::steady_clock::now();
  if (now >= next_port_look_) {
    ports_->update();
    next_port_look_ = now + look_pause;
  }
  for (auto waiter = port_waiters_.begin(); waiter != port_waiters_.end();) {
    const bool over = ports_->token() != waiter->known || waiter->deadline.expired();
    if (over) answer(waiter->id, {{"token", ports_->token()}, {"ports", ports_->ports()}});
    waiter = over ? port_waiters_.erase(waiter) : waiter + 1;
  }
}

milliseconds Server::port_patience() const {
  auto least = Deadline(next_port_look_);
  for (const auto& waiter : port_waiters_) least = least.sooner(waiter.deadline);
  return least.remaining();
}

}  // namespace agentvm::guest::agent
