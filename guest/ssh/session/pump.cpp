#include "guest/ssh/session/pump.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/error.hpp"

namespace agentvm::guest {
namespace {

constexpr std::size_t chunk_bytes = 32 * 1024;  // one ssh packet
// A caller that closed its end while the guest takes nothing: the rest is dropped after this much time without
// progress.
constexpr milliseconds linger_time{30'000};

Pump* self_of(void* self) {
  return static_cast<Pump*>(self);
}

}  // namespace

Pump::Pump(ssh_channel channel, Kind kind) : channel_(channel), kind_(kind) {
  FdPair pair = make_socketpair();
  io_ = std::move(pair.first);
  set_nonblocking(io_.get(), true);
  user_io_ = std::move(pair.second);
  ssh_callbacks_init(&callbacks_);
  callbacks_.userdata = this;
  callbacks_.channel_data_function = on_data;
  callbacks_.channel_eof_function = on_eof;
  callbacks_.channel_close_function = on_close;
  callbacks_.channel_exit_status_function = on_exit_status;
  callbacks_.channel_exit_signal_function = on_exit_signal;
  if (ssh_set_channel_callbacks(channel_, &callbacks_) != SSH_OK)
    throw Error(ErrorCode::operation_failed, "libssh is out of memory");
}

Pump::~Pump() {
  report({});  // lost, unless the status came
  if (channel_ == nullptr) return;
  ssh_remove_channel_callbacks(channel_, &callbacks_);
  ssh_channel_free(channel_);
}

void Pump::with_stderr() {
  FdPair pair = make_socketpair();
  err_.fd = std::move(pair.first);
  set_nonblocking(err_.fd.get(), true);
  ::shutdown(err_.fd.get(), SHUT_RD);
  user_err_ = std::move(pair.second);
}

// Callbacks: libssh may run them inside any call that we make into it, so they only note things and never call libssh.

int Pump::on_data(ssh_session, ssh_channel, void* data, uint32_t size, int is_stderr, void* user) {
  Pump& self = *self_of(user);
  if (self.closing_) return static_cast<int>(size);
  Sink& sink = is_stderr ? self.err_ : self.out_;
  const bool tcp = self.kind_ == Kind::tcp;
  if (size > (tcp ? tcp_backlog_limit_bytes : process_backlog_limit_bytes) || (tcp && is_stderr)) self.overrun_ = true;
  std::size_t taken = 0;
  if (self.overrun_ || (is_stderr && !sink.fd)) {
    taken = size;  // with a pty nobody asked for standard error
  } else if (self.started_ && sink.held.empty()) {
    taken = self.deliver(sink, static_cast<const char*>(data), size);
  }
  sink.waiting = size - taken;
  return static_cast<int>(taken);
}

void Pump::on_eof(ssh_session, ssh_channel, void* self) {
  self_of(self)->remote_eof_ = true;
}

void Pump::on_close(ssh_session, ssh_channel, void* self) {
  self_of(self)->remote_eof_ = true;
  self_of(self)->remote_closed_ = true;
}

void Pump::on_exit_status(ssh_session, ssh_channel, int status, void* self) {
  self_of(self)->report({GuestStatus::Kind::exited, status & 0xff, {}});
}

void Pump::on_exit_signal(ssh_session, ssh_channel, const char* name, int, const char*, const char*, void* self) {
  // The name is the guest's word: keep what can be one.
  std::string signal;
  for (const char* p = name; *p != '\0' && signal.size() < 16; ++p)
    if ((*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9')) signal += *p;
  self_of(self)->report({GuestStatus::Kind::signaled, 0, signal});
}

void Pump::report(GuestStatus status) {
  status_known_ = true;
  if (const auto callback = std::exchange(on_status_, nullptr)) callback(status);
}

// How much of `data` the caller's socket took; everything when the caller is gone.
std::size_t Pump::deliver(Sink& sink, const char* data, std::size_t size) {
  std::size_t sent = 0;
  while (sent < size && !sink.broken) {
    const auto result = ::send(sink.fd.get(), data + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (result >= 0) {
      sent += static_cast<std::size_t>(result);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return sent;
    } else if (errno != EINTR) {
      sink.broken = true;
    }
  }
  return size;
}

// libssh 0.10 opens the window fully on every read, however much it still holds: so it is emptied at once, and only
// when all that was taken before has been delivered. That bounds a channel by twice the window.
void Pump::drain(Sink& sink, bool is_stderr) {
  for (int round = 0; round < 4; ++round) {
    if (!sink.held.empty()) {
      sink.held.erase(0, deliver(sink, sink.held.data(), sink.held.size()));
      if (!sink.held.empty()) return;
    }
    if (sink.waiting == 0) break;
    sink.held.resize(sink.waiting);
    const int got =
        ssh_channel_read_nonblocking(channel_, sink.held.data(), static_cast<uint32_t>(sink.waiting), is_stderr);
    sink.held.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    sink.waiting = got > 0 ? sink.waiting - static_cast<std::size_t>(got) : 0;
  }
  if (sink.held.capacity() > 4 * chunk_bytes && sink.held.empty()) std::string().swap(sink.held);
}

void Pump::watch(std::vector<pollfd>& fds, bool may_write) {
  io_slot_ = err_slot_ = no_slot;
  if (closing_ || !started_) return;
  if (io_) {
    short events = 0;
    if (!input_ended_ && input_.empty() && may_write && !remote_closed_) events |= POLLIN;
    if (out_.stalled() && !out_.broken) events |= POLLOUT;
    // poll reports a hang-up even when nothing was asked for: once it is known, ask only with a reason, or the thread
    // spins.
    if (events != 0 || !hung_up_) {
      io_slot_ = fds.size();
      fds.push_back({io_.get(), events, 0});
    }
  }
  if (err_.fd && err_.stalled() && !err_.broken) {
    err_slot_ = fds.size();
    fds.push_back({err_.fd.get(), POLLOUT, 0});
  }
}

void Pump::service(const std::vector<pollfd>& fds, bool may_write) {
  if (closing_ || !started_) return;
  const short io_events = io_slot_ == no_slot ? short{0} : fds[io_slot_].revents;
  const short err_events = err_slot_ == no_slot ? short{0} : fds[err_slot_].revents;
  if ((io_events & (POLLHUP | POLLERR)) && !hung_up_) {
    hung_up_ = true;
    linger_ = Deadline::after(linger_time);
  }
  if (released_ && hung_up_) {
    close();
    return;
  }
  if (overrun_) {
    give_up("the guest sent more than the window allows");
    return;
  }
  if ((io_events & (POLLOUT | POLLERR | POLLHUP)) || out_.broken || remote_eof_) drain(out_, false);
  if (err_.fd && ((err_events & (POLLOUT | POLLERR | POLLHUP)) || err_.broken || remote_eof_)) drain(err_, true);
  if ((io_events & (POLLIN | POLLHUP)) && input_.empty() && !input_ended_) read_input();
  if (may_write) write_input();
  // The reader of a process's output is gone. ssh has no way to say that but to close the channel (OpenSSH's own "eow"
  // message is out of reach): the guest's process then meets a closed pipe, and its status, which can no longer come,
  // is that of a closed pipe.
  if (kind_ == Kind::process && out_.broken && !remote_closed_) {
    report({GuestStatus::Kind::signaled, 0, "PIPE"});
    close();
    return;
  }
  if (kind_ == Kind::tcp && (out_.broken || (hung_up_ && (eof_sent_ || linger_.expired())))) {
    close();
    return;
  }
  if (kind_ == Kind::process) linger_ = Deadline::never();
  end_output();
}

void Pump::read_input() {
  input_.resize(chunk_bytes);
  const auto got = ::recv(io_.get(), input_.data(), input_.size(), MSG_DONTWAIT);
  const int error = errno;
  input_.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  if (got == 0 || (got < 0 && error != EAGAIN && error != EINTR)) input_ended_ = true;
}

void Pump::write_input() {
  if (remote_closed_) {
    input_.clear();
    return;
  }
  if (!input_.empty()) {
    const std::size_t window = ssh_channel_window_size(channel_);
    if (window == 0) return;
    const int wrote =
        ssh_channel_write(channel_, input_.data(), static_cast<uint32_t>(std::min(window, input_.size())));
    if (wrote < 0) {
      input_.clear();  // the guest's end no longer reads
      input_ended_ = true;
      return;
    }
    input_.erase(0, static_cast<std::size_t>(wrote));
    if (wrote > 0 && hung_up_) linger_ = Deadline::after(linger_time);
  }
  if (input_.empty() && input_ended_ && !eof_sent_) {
    eof_sent_ = true;
    ssh_channel_send_eof(channel_);
  }
}

void Pump::end_output() {
  if (!remote_eof_ || out_.stalled() || err_.stalled()) return;
  if (!output_ended_) {
    output_ended_ = true;
    ::shutdown(io_.get(), SHUT_WR);
    err_.fd.reset();
  }
  if (remote_closed_) close();
}

void Pump::give_up(std::string reason) {
  fault_ = std::move(reason);
  close();
}

void Pump::release() {
  released_ = true;
  if (!status_known_ || hung_up_) close();
}

void Pump::close() {
  if (closing_) return;
  closing_ = true;
  linger_ = Deadline::never();
  // While output is backed up the first call only sends EOF and says "again"; the second sends the close.
  for (int i = 0; i < 2 && ssh_channel_close(channel_) == SSH_AGAIN; ++i) {
  }
  out_ = {};
  err_ = {};
  input_.clear();
}

void Pump::resize(PtySize size) {
  if (!closing_ && !remote_closed_)
    ssh_channel_change_pty_size(channel_, static_cast<int>(size.columns), static_cast<int>(size.rows));
}

void Pump::signal(const std::string& name) {
  if (!closing_ && !remote_closed_) ssh_channel_request_send_signal(channel_, name.c_str());
}

}  // namespace agentvm::guest
