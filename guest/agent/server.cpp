#include "guest/agent/server.hpp"

#include <algorithm>
#include <cerrno>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/console.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr std::size_t outgoing_limit_bytes = 1u << 20;
/// A frame that stops arriving for this long was cut off by the death of its sender. Shorter than the host's pause
/// between two hellos.
constexpr milliseconds mid_frame_patience{300};
constexpr milliseconds waiter_pause{20};
constexpr milliseconds alone_patience{60'000};
constexpr milliseconds host_watch_pause{1000};  // belt and braces beside the edge-triggered watch

int least(int timeout, milliseconds other) {
  const auto count = static_cast<int>(std::clamp<long long>(other.count(), 0, 86'400'000));
  return timeout < 0 ? count : std::min(timeout, count);
}

}  // namespace

Server::Server(int fd, ServerOptions options) : fd_(fd), options_(std::move(options)) {
  set_nonblocking(fd_, true);
}
Server::~Server() = default;

void Server::set_running(WorkspaceKind workspace) {
  options_.stage = Stage::running;
  options_.root = "/";
  workspace_ = workspace;
}

void Server::set_waiting() {
  set_running(WorkspaceKind::none);
  options_.stage = Stage::waiting;
}

Server::End Server::run(Deadline deadline) {
  for (;;) {
    if (ended_) return End::closed;
    if (options_.stage == Stage::init && outgoing_.empty() && identity_applied_) return End::identity_applied;
    if (options_.stage == Stage::init && outgoing_.empty() && identity_failed_) return End::identity_failed;
    if (deadline.expired()) return End::deadline;
    if (!connected_)
      wait_for_host(deadline);
    else
      step(deadline);
  }
}

int Server::poll_timeout(Deadline deadline) const {
  int timeout = deadline.poll_timeout();
  if (parser_.mid_frame()) timeout = least(timeout, mid_frame_patience);
  if (!waiters_.empty()) timeout = least(timeout, waiter_pause);
  if (!port_waiters_.empty()) timeout = least(timeout, port_patience());
  if (!ref_waiters_.empty()) timeout = least(timeout, ref_patience());
  if (!session_waiters_.empty()) timeout = least(timeout, session_patience());
  if (!nested_waiters_.empty()) timeout = least(timeout, nested_patience());
  for (const auto& job : jobs_)
    if (const auto grace = job.grace()) timeout = least(timeout, grace->remaining());
  return timeout;
}

void Server::step(Deadline deadline) {
  struct Owner {
    ExecJob* job;
    Slot slot;
  };
  std::vector<pollfd> entries;
  std::vector<Owner> owners;
  const auto add = [&](int fd, short events, ExecJob* job, Slot slot) {
    if (fd < 0) return;
    entries.push_back({fd, events, 0});
    owners.push_back({job, slot});
  };
  // While the host does not take what we have for it, we take nothing from it: its requests cost us memory too.
  const bool room = outgoing_.size() < outgoing_limit_bytes;
  add(fd_, static_cast<short>((room ? POLLIN : 0) | (outgoing_.empty() ? 0 : POLLOUT)), nullptr, Slot::port);
  if (probe_) add(probe_->pidfd(), POLLIN, nullptr, Slot::probe);
  if (!ref_waiters_.empty()) add(refs_->fd(), POLLIN, nullptr, Slot::refs);
  for (auto& job : jobs_) {
    add(job.input_fd(), POLLOUT, &job, Slot::input);
    add(job.exit_fd(), POLLIN, &job, Slot::exit);
    if (!room) continue;
    add(job.output_fd(), POLLIN, &job, Slot::output);
    add(job.error_fd(), POLLIN, &job, Slot::error);
  }
  const int ready = ::poll(entries.data(), entries.size(), poll_timeout(deadline));
  if (ready < 0 && errno != EINTR) throw_errno("poll");
  // Jobs before the port: its frames may add and remove jobs.
  for (std::size_t i = 1; ready > 0 && i < entries.size(); ++i)
    if (entries[i].revents && owners[i].job) serve_job(*owners[i].job, owners[i].slot);
  finish_jobs();
  check_waiters();
  check_ports();
  check_refs();
  check_sessions();
  check_nested();
  const short events = ready > 0 ? entries[0].revents : short{0};
  if (events & (POLLIN | POLLHUP | POLLERR)) read_port();
  if (connected_ && !ended_ && !outgoing_.empty()) write_port();
  const auto now = std::chrono::steady_clock::now();
  if (parser_.mid_frame() && now - last_bytes_ >= mid_frame_patience) parser_.reset();
}

void Server::serve_job(ExecJob& job, Slot slot) {
  if (slot == Slot::input) return job.pump_input();
  if (slot == Slot::exit) return job.check_exit();
  const auto type = slot == Slot::output ? FrameType::output : FrameType::error_output;
  auto bytes = job.take(type);
  if (!bytes.empty()) send(type, job.id(), std::move(bytes));
}

void Server::finish_jobs() {
  for (auto job = jobs_.begin(); job != jobs_.end();) {
    if (!job->finished()) {
      ++job;
      continue;
    }
    answer(job->id(), job->result());
    job = jobs_.erase(job);
  }
}

void Server::read_port() {
  char buffer[64u << 10];
  const ssize_t count = ::read(fd_, buffer, sizeof buffer);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return end_session();
  last_bytes_ = std::chrono::steady_clock::now();
  parser_.feed({buffer, static_cast<std::size_t>(count)});
  while (const auto frame = parser_.next()) handle(*frame);
}

void Server::write_port() {
  constexpr std::size_t chunk_bytes = 32u << 10;  // what one write to a virtio port takes
  const auto size = std::min(outgoing_.size(), chunk_bytes);
  const ssize_t count = options_.transport == Transport::socket ? ::send(fd_, outgoing_.data(), size, MSG_NOSIGNAL)
                                                                : ::write(fd_, outgoing_.data(), size);
  if (count > 0) outgoing_.erase(0, static_cast<std::size_t>(count));
  if (count < 0 && errno != EAGAIN && errno != EINTR) end_session();
}

void Server::forget_session() {
  jobs_.clear();
  waiters_.clear();
  port_waiters_.clear();
  ref_waiters_.clear();
  session_waiters_.clear();
  nested_waiters_.clear();
  outgoing_.clear();
  nonce_.clear();
}

void Server::end_session() {
  forget_session();
  parser_.reset();
  connected_ = false;
  if (options_.transport == Transport::socket) ended_ = true;
}

/// A virtio port without its host polls as hung up all the time; only an edge-triggered watch sleeps until that
/// changes.
void Server::wait_for_host(Deadline deadline) {
  if (!host_watch_) {
    host_watch_.reset(check_errno(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    epoll_event watch{};
    watch.events = EPOLLIN | EPOLLOUT | EPOLLET;
    check_errno(::epoll_ctl(host_watch_.get(), EPOLL_CTL_ADD, fd_, &watch), "epoll_ctl");
  }
  pollfd entry{fd_, POLLIN | POLLOUT, 0};
  check_errno(::poll(&entry, 1, 0), "poll");
  if (!(entry.revents & POLLHUP)) {
    connected_ = true;
    alone_until_.reset();
    return;
  }
  check_company();
  epoll_event event{};
  ::epoll_wait(host_watch_.get(), &event, 1, least(deadline.poll_timeout(), host_watch_pause));
  check_waiters();  // reaps a probe that was still running
}

/// A template's machine whose manager was killed would run for ever.
void Server::check_company() {
  if (options_.stage != Stage::waiting) return;
  if (!alone_until_) alone_until_ = Deadline::after(alone_patience);
  if (!alone_until_->expired()) return;
  say("nobody is there any more");
  if (options_.power_off) options_.power_off(milliseconds(0));
  alone_until_ = Deadline::never();
}

void Server::send(FrameType type, std::uint32_t id, std::string payload) {
  if (connected_) outgoing_ += encode({type, 0, id, std::move(payload)});
}

void Server::answer(std::uint32_t id, Json body) {
  body["ok"] = true;
  send(FrameType::response, id, dump_json(body));
}

void Server::refuse(std::uint32_t id, const Error& error) {
  send(FrameType::response, id,
       dump_json(
           {{"error", {{"code", to_string(error.code())}, {"message", std::string(error.what()).substr(0, 4096)}}}}));
}

void Server::send_event(const Json& event, milliseconds patience) {
  send(FrameType::event, 0, dump_json(event));
  const auto deadline = Deadline::after(patience);
  while (connected_ && !ended_ && !outgoing_.empty() && wait_for(fd_, POLLOUT, deadline)) {
    pollfd entry{fd_, POLLOUT, 0};
    if (::poll(&entry, 1, 0) > 0 && (entry.revents & POLLHUP)) return;
    write_port();
  }
}

}  // namespace agentvm::guest::agent
