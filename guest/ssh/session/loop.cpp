#include "guest/ssh/session/loop.hpp"

#include <fmt/format.h>
#include <libssh/server.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "vmm/base/log.hpp"

namespace agentvm::guest {
namespace {

constexpr std::size_t fd_command = 0, fd_session = 1;

SteadyTime now() {
  return std::chrono::steady_clock::now();
}

}  // namespace

Loop::Loop(SshEndpoint endpoint, SshOptions options) : endpoint_(std::move(endpoint)), options_(options) {}

Loop::~Loop() {
  if (thread_.joinable()) thread_.detach();  // only the thread itself can hold the last reference by now
}

void Loop::start(Deadline deadline, const std::stop_token& called_off) {
  const std::stop_callback give_up(called_off, [this] { mailbox_.post([this] { end_now_ = true; }); });
  auto connected = std::make_shared<Answer<bool>>();
  thread_ = std::thread([self = shared_from_this(), connected, deadline] { self->run(connected, deadline); });
  try {
    // The thread keeps the deadline itself; the margin is for its answer to arrive.
    if (!connected->wait(deadline.remaining() == milliseconds::max() ? deadline
                                                                     : Deadline(deadline.at() + milliseconds(500))))
      throw Error(ErrorCode::timed_out, fmt::format("connecting to sandbox {}: no answer in time", endpoint_.name));
  } catch (...) {
    stop();
    throw;
  }
}

void Loop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  mailbox_.post([this] { end_now_ = true; });
  if (!thread_.joinable()) return;
  if (thread_.get_id() == std::this_thread::get_id())
    thread_.detach();
  else
    thread_.join();
}

void Loop::run(std::shared_ptr<Answer<bool>> connected, Deadline deadline) {
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);  // libssh writes to its socket without MSG_NOSIGNAL
  ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  ::pthread_setname_np(::pthread_self(), "ssh");
  std::string reason;
  try {
    link_ = shake_hands(endpoint_, options_, deadline, mailbox_.fd());
    ssh_set_message_callback(link_.session.get(), on_message, this);
    event_.reset(ssh_event_new());
    if (!event_ || ssh_event_add_session(event_.get(), link_.session.get()) != SSH_OK)
      throw Error(ErrorCode::operation_failed, "libssh is out of memory");
    ssh_set_counters(link_.session.get(), &socket_counter_, nullptr);
    last_heard_ = last_probe_ = now();
    {
      const std::lock_guard lock(mutex_);
      state_ = State::alive;
    }
    log::debug("ssh", "{}: connected", endpoint_.name);
    connected->set(true);
    serve();
    reason = "closed";
  } catch (const Error& error) {
    connected->fail(error);
    reason = error.message();
  } catch (const std::exception& error) {
    connected->fail(Error(ErrorCode::operation_failed, error.what()));
    reason = error.what();
  }
  end(reason);
}

// Everything that waits is told, then the session is taken down. Callbacks come last: they may destroy whatever they
// like.
void Loop::end(const std::string& reason) {
  std::vector<std::function<void(const std::string&)>> callbacks;
  bool worth_telling = false;
  {
    const std::lock_guard lock(mutex_);
    worth_telling = state_ == State::alive && !stopping_;  // before that, whoever connects is told
    state_ = State::lost;
    reason_ = reason;
    callbacks.swap(lost_callbacks_);
  }
  if (worth_telling) log::warn("ssh", "{}: connection lost: {}", endpoint_.name, reason);
  mailbox_.close();
  for (auto& opening : openings_)
    if (opening.answer) opening.answer->fail(lost_error());
  for (auto& request : globals_) request.done(SSH_ERROR, reason);
  globals_.clear();
  openings_.clear();
  incoming_.clear();
  pumps_.clear();
  listeners_.clear();
  if (event_ && link_.session) ssh_event_remove_session(event_.get(), link_.session.get());
  event_.reset();
  if (link_.session) ssh_disconnect(link_.session.get());
  link_.session.reset();
  for (const auto& callback : callbacks) callback(reason);
}

void Loop::serve() {
  while (!end_now_) {
    fds_.clear();
    fds_.push_back({mailbox_.fd(), POLLIN, 0});
    const bool may_write = writable();
    fds_.push_back({link_.socket, static_cast<short>(POLLIN | (may_write ? 0 : POLLOUT)), 0});
    for (auto& [id, pump] : pumps_) pump->watch(fds_, may_write);
    if (::poll(fds_.data(), fds_.size(), poll_timeout()) < 0) {
      if (errno != EINTR) throw_errno("waiting for ssh channels");
      continue;
    }
    if (fds_[fd_command].revents != 0)
      for (auto& task : mailbox_.take()) task();
    if (fds_[fd_session].revents != 0) process_session();
    step_openings();
    step_globals();
    service_pumps();
    announce_incoming();
    keep_alive();
    if ((ssh_get_status(link_.session.get()) & (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0 ||
        !ssh_is_connected(link_.session.get()))
      throw Error(ErrorCode::operation_failed,
                  fmt::format("the guest's sshd ended the connection: {}", ssh_error_text(link_.session.get())));
  }
}

bool Loop::writable() const {
  return (ssh_get_poll_flags(link_.session.get()) & SSH_WRITE_PENDING) == 0;
}

int Loop::poll_timeout() const {
  Deadline next(std::max(last_heard_, last_probe_) + options_.keepalive_timeout / 3);
  for (const auto& opening : openings_)
    if (opening.answer) next = next.sooner(opening.deadline);
  for (const auto& [id, pump] : pumps_) next = next.sooner(pump->due());
  return next.poll_timeout();
}

void Loop::process_session() {
  // libssh reads 4 KiB at a time: several turns per wake-up, but not so many that the channels' own ends starve.
  for (int turn = 0; turn < 64; ++turn)
    if (ssh_event_dopoll(event_.get(), 0) != SSH_OK) break;
}

void Loop::step_openings() {
  for (auto it = openings_.begin(); it != openings_.end();) {
    Opening& opening = *it;
    int result = SSH_OK;
    while (opening.at < opening.steps.size() && (result = opening.steps[opening.at]()) == SSH_OK) ++opening.at;
    if (result == SSH_AGAIN) {
      if (opening.answer && opening.deadline.expired()) {
        // The channel may still open later: only then can it be closed, so it stays on the list without anybody
        // waiting.
        opening.answer->fail(Error(ErrorCode::timed_out, opening.what + ": the guest did not answer in time"));
        opening.answer = nullptr;
      }
      ++it;
      continue;
    }
    const auto answer = std::move(opening.answer);
    if (result != SSH_OK && answer)
      answer->fail(
          Error(ErrorCode::operation_failed, fmt::format("{}: {}", opening.what, ssh_error_text(link_.session.get()))));
    // With SSH_OK it may be closed again already: it ran to its end before we looked, and the pump still holds its
    // output.
    if (result == SSH_OK || ssh_channel_is_open(opening.pump->channel())) {
      Opened opened{opening.pump->take_io(), opening.pump->take_err(), next_id_++};
      Pump& pump = *pumps_.emplace(opened.id, std::move(opening.pump)).first->second;
      if (result == SSH_OK && answer) {
        pump.start();
        answer->set(std::move(opened));
      } else {
        pump.close();
      }
    }
    it = openings_.erase(it);
  }
}

void Loop::step_globals() {
  while (!globals_.empty()) {
    const int result = globals_.front().step();
    if (result == SSH_AGAIN) return;
    const auto done = std::move(globals_.front().done);
    globals_.pop_front();
    done(result, result == SSH_OK ? "" : ssh_error_text(link_.session.get()));
  }
}

void Loop::service_pumps() {
  // Start at another channel each turn: the output buffer may fill up before all have had theirs.
  auto start = pumps_.lower_bound(turn_);
  if (start == pumps_.end()) start = pumps_.begin();
  turn_ = start == pumps_.end() ? 0 : start->first + 1;
  for (std::size_t count = pumps_.size(); count > 0; --count) {
    Pump& pump = *start->second;
    const bool was_closing = pump.closing();
    pump.service(fds_, writable());
    if (!was_closing && !pump.fault().empty())
      log::warn("ssh", "{}: channel {} closed: {}", endpoint_.name, start->first, pump.fault());
    start = pump.finished() ? pumps_.erase(start) : std::next(start);
    if (start == pumps_.end()) start = pumps_.begin();
  }
  std::size_t waiting = 0;
  Pump* largest = nullptr;
  for (auto& [id, pump] : pumps_) {
    waiting += pump->backlog();
    if (largest == nullptr || pump->backlog() > largest->backlog()) largest = pump.get();
  }
  if (waiting > session_backlog_limit_bytes) {
    log::warn("ssh", "{}: {} MiB wait to be read in this connection: the largest channel is closed", endpoint_.name,
              waiting >> 20);
    largest->give_up("too much waits to be read");
  }
}

// Runs inside libssh's packet handling. Only connections to ports that we listen on are let in; everything else is
// refused there.
int Loop::on_message(ssh_session, ssh_message message, void* user) {
  constexpr int refuse = 1, handled = 0;
  Loop& self = *static_cast<Loop*>(user);
  if (ssh_message_type(message) != SSH_REQUEST_CHANNEL_OPEN ||
      ssh_message_subtype(message) != SSH_CHANNEL_FORWARDED_TCPIP)
    return refuse;
  const int port = ssh_message_channel_request_open_destination_port(message);
  if (port <= 0 || port > 65535 || !self.listeners_.contains(static_cast<std::uint16_t>(port))) return refuse;
  if (self.pumps_.size() + self.openings_.size() + self.incoming_.size() >= channel_limit) return refuse;
  try {
    const ssh_channel channel = ssh_message_channel_request_open_reply_accept(message);
    if (channel == nullptr) return handled;
    self.incoming_.push_back({static_cast<std::uint16_t>(port), std::make_unique<Pump>(channel, Pump::Kind::tcp)});
  } catch (const std::exception& error) {
    log::warn("ssh", "{}: a connection to guest port {} was dropped: {}", self.endpoint_.name, port, error.what());
  }
  return handled;
}

void Loop::announce_incoming() {
  for (auto& incoming : std::exchange(incoming_, {})) {
    UniqueFd io = incoming.pump->take_io();
    Pump& pump = *pumps_.emplace(next_id_++, std::move(incoming.pump)).first->second;
    const auto listener = listeners_.find(incoming.port);
    if (listener == listeners_.end()) {
      pump.close();
      continue;
    }
    pump.start();
    try {
      listener->second(std::move(io));
    } catch (const std::exception& error) {
      log::warn("ssh", "{}: guest port {}: {}", endpoint_.name, incoming.port, error.what());
    }
  }
}

void Loop::keep_alive() {
  const SteadyTime time = now();
  const auto third = options_.keepalive_timeout / 3;
  // Counted where libssh reads: it reads within a step of ours, too, and the answer to a probe may come there.
  if (socket_counter_.in_bytes != bytes_heard_) last_heard_ = time;
  bytes_heard_ = socket_counter_.in_bytes;
  if (silent_) last_heard_ = last_probe_ = time;  // the span begins anew when it may speak again
  if (time - std::max(last_heard_, last_probe_) < third) return;
  // A probe must have had its time: a long stop of this very process (debugger, SIGSTOP) is no proof of the guest's
  // silence.
  if (last_probe_ > last_heard_ && time - last_heard_ >= options_.keepalive_timeout)
    throw Error(ErrorCode::operation_failed,
                fmt::format("the guest did not answer for {} s",
                            std::chrono::round<std::chrono::seconds>(time - last_heard_).count()));
  last_probe_ = time;
  if (!globals_.empty()) return;  // one is on its way already
  // libssh's own keepalive cannot say whether its answer came, which would mix it up with the next request. Cancelling
  // a forward that does not exist is refused by every sshd, and this call does say so.
  globals_.push_back({[this] { return ssh_channel_cancel_forward(link_.session.get(), "127.0.0.1", 1); },
                      [](int, const std::string&) {}});
  step_globals();
}

}  // namespace agentvm::guest
