// What other threads ask of the session's thread: each call posts a task and waits for its answer.
#include <fmt/format.h>

#include "guest/ssh/session/loop.hpp"

namespace agentvm::guest {

bool Loop::alive() const {
  const std::lock_guard lock(mutex_);
  return state_ == State::alive && !stopping_;
}

Error Loop::lost_error() const {
  const std::lock_guard lock(mutex_);
  return Error(ErrorCode::operation_failed,
               fmt::format("the connection to sandbox {} is gone: {}", endpoint_.name, reason_),
               fmt::format("agentvm status {}", endpoint_.name));
}

void Loop::check_alive() const {
  if (!alive()) throw lost_error();
}

void Loop::on_lost(std::function<void(const std::string&)> callback) {
  std::string reason;
  {
    const std::lock_guard lock(mutex_);
    if (state_ != State::lost) {
      lost_callbacks_.push_back(std::move(callback));
      return;
    }
    reason = reason_;
  }
  callback(reason);
}

void Loop::post_or_fail(std::function<void()> task) {
  check_alive();
  if (thread_.get_id() == std::this_thread::get_id())
    throw Error(ErrorCode::operation_failed, "a blocking ssh call from within a callback of the same connection");
  if (!mailbox_.post(std::move(task))) throw lost_error();
}

void Loop::begin_open(Pump::Kind kind, std::function<Steps(Pump&)> steps, std::shared_ptr<Answer<Opened>> answer,
                      std::string what, Deadline deadline) {
  try {
    if (pumps_.size() + openings_.size() >= channel_limit)
      throw Error(ErrorCode::operation_failed, fmt::format("{}: {} channels are open already", what, channel_limit));
    const ssh_channel channel = ssh_channel_new(link_.session.get());
    if (channel == nullptr) throw Error(ErrorCode::operation_failed, "libssh is out of memory");
    auto pump = std::make_unique<Pump>(channel, kind);
    auto list = steps(*pump);
    openings_.push_back({std::move(pump), std::move(list), 0, deadline, std::move(answer), std::move(what)});
  } catch (const Error& error) {
    answer->fail(error);
  }
}

Opened Loop::wait_opened(const std::shared_ptr<Answer<Opened>>& answer, const std::string& what, Deadline deadline) {
  // The thread keeps the deadline; should it be too busy for that, the margin ends the wait here. A channel that opens
  // even later closes itself, because nobody holds the other ends.
  const Deadline last =
      deadline.remaining() == milliseconds::max() ? deadline : Deadline(deadline.at() + milliseconds(500));
  auto opened = answer->wait(last);
  if (!opened) throw Error(ErrorCode::timed_out, what + ": the guest did not answer in time");
  return std::move(*opened);
}

Opened Loop::open_process(ProcessRequest request, Deadline deadline) {
  const std::string what = fmt::format("running a command in sandbox {}", endpoint_.name);
  auto answer = std::make_shared<Answer<Opened>>();
  auto shared = std::make_shared<ProcessRequest>(std::move(request));
  const auto steps = [shared](Pump& pump) {
    const ssh_channel channel = pump.channel();
    pump.on_status(shared->on_status);
    Steps list{[channel] { return ssh_channel_open_session(channel); }};
    if (shared->pty)
      list.push_back([channel, shared] {
        const int columns = static_cast<int>(shared->pty->columns), rows = static_cast<int>(shared->pty->rows);
#if LIBSSH_VERSION_INT >= SSH_VERSION_INT(0, 11, 0)
        static constexpr unsigned char no_modes[] = {0};  // otherwise it sends the modes of our own standard input
        return ssh_channel_request_pty_size_modes(channel, shared->term.c_str(), columns, rows, no_modes,
                                                  sizeof no_modes);
#else
        return ssh_channel_request_pty_size(channel, shared->term.c_str(), columns, rows);
#endif
      });
    else
      pump.with_stderr();
    list.push_back([channel, shared] { return ssh_channel_request_exec(channel, shared->command.c_str()); });
    return list;
  };
  post_or_fail(
      [this, steps, answer, what, deadline] { begin_open(Pump::Kind::process, steps, answer, what, deadline); });
  return wait_opened(answer, what, deadline);
}

std::function<void()> Loop::dial_task(const std::string& host, std::uint16_t port,
                                      std::shared_ptr<Answer<Opened>> answer, Deadline deadline) {
  const auto steps = [host, port](Pump& pump) {
    return Steps{[channel = pump.channel(), host, port] {
      return ssh_channel_open_forward(channel, host.c_str(), port, "127.0.0.1", 0);
    }};
  };
  return [this, steps, answer = std::move(answer), deadline,
          what = fmt::format("connecting to {}:{} in sandbox {}", host, port, endpoint_.name)] {
    begin_open(Pump::Kind::tcp, steps, answer, what, deadline);
  };
}

Opened Loop::dial(const std::string& host, std::uint16_t port, Deadline deadline) {
  auto answer = std::make_shared<Answer<Opened>>();
  post_or_fail(dial_task(host, port, answer, deadline));
  return wait_opened(answer, fmt::format("connecting to {}:{} in sandbox {}", host, port, endpoint_.name), deadline);
}

void Loop::dial_async(const std::string& host, std::uint16_t port, Deadline deadline,
                      std::function<void(UniqueFd, const Error*)> callback) {
  const auto answer = std::make_shared<Answer<Opened>>(
      [callback = std::move(callback)](Opened opened, const Error* error) { callback(std::move(opened.io), error); });
  try {
    check_alive();
  } catch (const Error& error) {
    return answer->fail(error);
  }
  // A mailbox that has just closed drops the task, and the answer with it.
  mailbox_.post(dial_task(host, port, answer, deadline));
}

void Loop::listen(std::uint16_t port, std::function<void(UniqueFd)> on_connection, Deadline deadline) {
  const std::string what = fmt::format("listening on 127.0.0.1:{} in sandbox {}", port, endpoint_.name);
  auto answer = std::make_shared<Answer<bool>>();
  post_or_fail([this, port, on_connection = std::move(on_connection), answer, what] {
    if (listeners_.contains(port)) {
      answer->fail(Error(ErrorCode::wrong_state, what + ": this connection listens there already"));
      return;
    }
    listeners_.emplace(port, on_connection);  // before the answer: the first connection may come in the same packet
    globals_.push_back(
        {[this, port] { return ssh_channel_listen_forward(link_.session.get(), "127.0.0.1", port, nullptr); },
         [this, port, answer, what](int result, const std::string& error) {
           if (result == SSH_OK) {
             answer->set(true);
           } else {
             listeners_.erase(port);
             answer->fail(Error(ErrorCode::operation_failed, fmt::format("{}: {}", what, error)));
           }
         }});
  });
  if (answer->wait(deadline)) return;
  unlisten(port);
  throw Error(ErrorCode::timed_out, what + ": the guest did not answer in time");
}

void Loop::unlisten(std::uint16_t port) {
  mailbox_.post([this, port] {
    listeners_.erase(port);
    globals_.push_back({[this, port] { return ssh_channel_cancel_forward(link_.session.get(), "127.0.0.1", port); },
                        [](int, const std::string&) {}});
  });
}

Pump* Loop::find(std::uint64_t id) {
  const auto found = pumps_.find(id);
  return found == pumps_.end() ? nullptr : found->second.get();
}

void Loop::release(std::uint64_t id) {
  mailbox_.post([this, id] {
    if (Pump* pump = find(id)) pump->release();
  });
}

void Loop::resize(std::uint64_t id, PtySize size) {
  mailbox_.post([this, id, size] {
    if (Pump* pump = find(id)) pump->resize(size);
  });
}

void Loop::signal(std::uint64_t id, std::string name) {
  mailbox_.post([this, id, name = std::move(name)] {
    if (Pump* pump = find(id)) pump->signal(name);
  });
}

}  // namespace agentvm::guest
