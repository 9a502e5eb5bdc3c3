// How the manager ends: idle, retired for another version, or stopped.

#include <boost/asio/post.hpp>
#include <unistd.h>

#include "cli/manager/server.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {

namespace asio = boost::asio;

namespace {
constexpr milliseconds poll_step{20};
constexpr milliseconds flush_limit{2'000};
}  // namespace

void Server::watch_idleness() {
  const auto step = std::clamp(options_.idle / 4, milliseconds(10), milliseconds(5'000));
  idle_timer_.expires_after(step);
  idle_timer_.async_wait([this](const boost::system::error_code& problem) {
    if (problem || stopping_) return;
    keep_listening();
    if (!connections_.empty() || retiring_ || in_flight(false) > 0) return judge_idleness(true);
    if (std::chrono::steady_clock::now() - idle_since_ < options_.idle) return watch_idleness();
    asio::post(quick_, [this] {
      bool busy = true;  // when we cannot tell, stay
      try {
        busy = service_.is_busy();
      } catch (const std::exception& failure) {
        log::error("manager", "asking whether a sandbox runs: {}", failure.what());
      }
      asio::post(io_, [this, busy] { judge_idleness(busy); });
    });
  });
}

void Server::judge_idleness(bool busy) {
  if (stopping_) return;
  if (!busy && connections_.empty() && !retiring_) return stop("idle");
  idle_since_ = std::chrono::steady_clock::now();
  watch_idleness();
}

void Server::retire(const std::shared_ptr<Call>& call) {
  log::info("manager", "another version takes over: waiting for {} requests", in_flight(true));
  retiring_ = true;
  accepting_ = false;
  acceptor_.cancel();  // new clients wait in the backlog until it is decided
  wait_for_retirement(call, Deadline::after(options_.retire_limit));
}

void Server::wait_for_retirement(const std::shared_ptr<Call>& call, Deadline deadline) {
  if (stopping_) return call->fail(Error(ErrorCode::wrong_state, "the manager is ending"));
  const auto left = in_flight(true);
  if (left == 0) {
    call->respond({{"schema", "agentvm.manager-retire/1"}, {"pid", ::getpid()}});
    return stop("retired");
  }
  if (!deadline.expired() && !call->cancelled().stop_requested())
    return after(poll_step, [this, call, deadline] { wait_for_retirement(call, deadline); });
  retiring_ = false;
  accepting_ = true;
  accept();
  call->fail(Error(ErrorCode::wrong_state,
                   fmt::format("the manager (version {}, pid {}) still works on {} request{}", options_.version,
                               ::getpid(), left, left == 1 ? "" : "s"),
                   "agentvm manager stop"));
}

void Server::drop_interruptible() {
  std::vector<std::shared_ptr<Connection>> doomed;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [serial, entry] : calls_) {
      const auto call = entry.call.lock();
      const auto connection = entry.connection.lock();
      if (call && connection && call->on_retire() == OnRetire::interrupt) doomed.push_back(connection);
    }
  }
  for (const auto& connection : doomed) connection->close();
}

void Server::stop(const std::string& reason) {
  if (stopping_) return;
  stopping_ = true;
  log::info("manager", "ending: {}", reason);
  // Nobody else may bind the name before our lock is free, so it is ours to remove.
  ::unlink(options_.paths.manager_socket().c_str());
  ::unlink(options_.paths.manager_address().c_str());
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  idle_timer_.cancel();
  // A second signal ends the process at once, as if it were killed: guests and records survive that by design.
  signals_.async_wait([](const boost::system::error_code& problem, int) {
    if (!problem) ::_exit(1);
  });
  drop_interruptible();
  std::vector<std::shared_ptr<Call>> running;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [serial, entry] : calls_)
      if (auto call = entry.call.lock()) running.push_back(std::move(call));
  }
  for (const auto& call : running) call->cancel();
  wait_for_calls(Deadline::after(options_.stop_limit));
}

void Server::wait_for_calls(Deadline deadline) {
  if (in_flight(false) > 0 && !deadline.expired())
    return after(poll_step, [this, deadline] { wait_for_calls(deadline); });
  if (const auto left = in_flight(false); left > 0) {
    overdue_ = true;
    log::error("manager", "{} requests did not obey their cancelling within {} ms", left, options_.stop_limit.count());
  }
  // Answers made by other threads are posted to this loop: this job is queued behind them.
  asio::post(io_, [this] { flush(Deadline::after(flush_limit)); });
}

void Server::flush(Deadline deadline) {
  const auto open = connections_;
  for (const auto& connection : open) connection->finish();
  if (!connections_.empty() && !deadline.expired()) return after(poll_step, [this, deadline] { flush(deadline); });
  io_.stop();
}

}  // namespace agentvm::manager
