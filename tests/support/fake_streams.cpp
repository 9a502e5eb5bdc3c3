#include "tests/support/fake_streams.hpp"

#include <condition_variable>
#include <csignal>
#include <cstring>
#include <optional>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::test {
namespace {

/// Holds the end of a guest process and tells whoever asked, once.
class Ending {
 public:
  void set(guest::GuestStatus status) {
    std::vector<std::function<void(const guest::GuestStatus&)>> callbacks;
    {
      std::lock_guard lock(mutex_);
      if (status_) return;
      status_ = status;
      callbacks.swap(callbacks_);
    }
    changed_.notify_all();
    for (const auto& callback : callbacks) callback(status);
  }
  std::optional<guest::GuestStatus> wait(Deadline deadline) {
    std::unique_lock lock(mutex_);
    const auto ready = [this] { return status_.has_value(); };
    if (deadline.remaining() == milliseconds::max())
      changed_.wait(lock, ready);
    else
      changed_.wait_until(lock, deadline.at(), ready);
    return status_;
  }
  void on_end(std::function<void(const guest::GuestStatus&)> callback) {
    std::optional<guest::GuestStatus> status;
    {
      std::lock_guard lock(mutex_);
      status = status_;
      if (!status) callbacks_.push_back(callback);
    }
    if (status) callback(*status);
  }

 private:
  std::mutex mutex_;  // guards status_, callbacks_
  std::condition_variable changed_;
  std::optional<guest::GuestStatus> status_;
  std::vector<std::function<void(const guest::GuestStatus&)>> callbacks_;
};

class FakeExec : public guest::Exec {
 public:
  UniqueFd take_io() override { return std::move(io_); }
  UniqueFd take_err() override { return std::move(err_); }
  void resize(guest::PtySize) override {}
  std::optional<guest::GuestStatus> wait(Deadline deadline) override { return ending_.wait(deadline); }
  void on_end(std::function<void(const guest::GuestStatus&)> callback) override { ending_.on_end(std::move(callback)); }

 protected:
  UniqueFd io_, err_;
  Ending ending_;
};

class ProcessExec : public FakeExec {
 public:
  explicit ProcessExec(const guest::ExecSpec& spec) {
    auto io = make_socketpair();
    auto err = make_pipe();
    ProcessSpec process;
    process.argv = spec.argv;
    process.cwd = spec.workdir;
    process.fds = {{0, io.second.get()}, {1, io.second.get()}, {2, err.second.get()}};
    if (!spec.env.empty()) {
      process.env = spec.env;
      for (const char* name : {"PATH", "HOME"})
        if (const char* value = std::getenv(name)) process.env->emplace(name, value);
    }
    process_.emplace(Process::spawn(process));
    io_ = std::move(io.first);
    err_ = std::move(err.first);
    watcher_ = std::thread([this] {
      const auto status = process_->wait(Deadline::never());
      if (status->signal)
        ending_.set({guest::GuestStatus::Kind::signaled, 0, ::sigabbrev_np(status->signal)});
      else
        ending_.set({guest::GuestStatus::Kind::exited, status->code, ""});
    });
  }
  ~ProcessExec() override {
    if (!ending_.wait(Deadline::after(milliseconds(0)))) ::kill(process_->pid(), SIGKILL);
    watcher_.join();
  }
  void signal(std::string_view name) override {
    ::kill(process_->pid(), name == "INT" ? SIGINT : name == "KILL" ? SIGKILL : SIGTERM);
  }

 private:
  std::optional<Process> process_;
  std::thread watcher_;
};

class ProgramExec : public FakeExec {
 public:
  ProgramExec(const FakeStreams::Program& program, const guest::ExecSpec& spec) {
    auto io = make_socketpair();
    auto err = make_pipe();
    io_ = std::move(io.first);
    err_ = std::move(err.first);
    // Ours to shut down from outside, so that a program that only waits on its stream ends with the Exec.
    hang_up_ = duplicate(io.second.get());
    runner_ = std::thread(
        [this, program, spec, guest_io = std::move(io.second), guest_err = std::move(err.second)]() mutable {
          int code = 255;
          try {
            code = program(spec, guest_io.get(), guest_err.get());
          } catch (const Error&) {
          }
          ::shutdown(guest_io.get(), SHUT_RDWR);
          guest_io.reset();
          guest_err.reset();
          ending_.set({guest::GuestStatus::Kind::exited, code, ""});
        });
  }
  ~ProgramExec() override {
    ::shutdown(hang_up_.get(), SHUT_RDWR);
    runner_.join();
  }
  void signal(std::string_view) override { ::shutdown(hang_up_.get(), SHUT_RDWR); }

 private:
  UniqueFd hang_up_;
  std::thread runner_;
};

}  // namespace

class FakeListener : public guest::Listener {
 public:
  FakeListener(FakeStreams& streams, std::uint16_t port) : streams_(streams), port_(port) {}
  ~FakeListener() override {
    std::lock_guard lock(streams_.mutex_);
    streams_.listeners_.erase(port_);
  }
  std::uint16_t guest_port() const override { return port_; }

 private:
  FakeStreams& streams_;
  std::uint16_t port_;
};

bool FakeStreams::alive() const {
  std::lock_guard lock(mutex_);
  return alive_;
}

UniqueFd FakeStreams::dial(const std::string& host, std::uint16_t port, Deadline) {
  if (!alive()) throw Error(ErrorCode::operation_failed, "the connection to the guest is lost");
  if (host != "127.0.0.1") throw Error(ErrorCode::operation_failed, host + ": refused by the guest");
  UniqueFd fd(check_errno(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  check_errno(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "refused by the guest");
  return fd;
}

void FakeStreams::dial_async(const std::string& host, std::uint16_t port, Deadline deadline, Dialled callback) {
  UniqueFd connection;
  try {
    connection = dial(host, port, deadline);
  } catch (const Error& error) {
    return callback({}, &error);
  }
  callback(std::move(connection), nullptr);
}

std::unique_ptr<guest::Listener> FakeStreams::accept(std::uint16_t port, std::function<void(UniqueFd)> on_connection,
                                                     Deadline) {
  std::lock_guard lock(mutex_);
  if (!alive_) throw Error(ErrorCode::operation_failed, "the connection to the guest is lost");
  if (!listeners_.emplace(port, std::move(on_connection)).second)
    throw Error(ErrorCode::operation_failed, "the port is in use in the guest");
  return std::make_unique<FakeListener>(*this, port);
}

std::unique_ptr<guest::Exec> FakeStreams::exec(const guest::ExecSpec& spec, Deadline) {
  ::signal(SIGPIPE, SIG_IGN);  // as in our programs: a program of the test may write to a stream that was closed
  Program program;
  {
    std::lock_guard lock(mutex_);
    if (!alive_) throw Error(ErrorCode::operation_failed, "the connection to the guest is lost");
    executed_.push_back(spec);
    if (chooser_) program = chooser_(spec);
  }
  if (program) return std::make_unique<ProgramExec>(program, spec);
  return std::make_unique<ProcessExec>(spec);
}

void FakeStreams::on_lost(std::function<void(const std::string&)> callback) {
  {
    std::lock_guard lock(mutex_);
    if (alive_) {
      lost_callbacks_.push_back(std::move(callback));
      return;
    }
  }
  callback(reason_);
}

UniqueFd FakeStreams::connect_to(std::uint16_t port) {
  auto pair = make_socketpair();
  std::function<void(UniqueFd)> callback;
  {
    std::lock_guard lock(mutex_);
    const auto found = listeners_.find(port);
    if (found == listeners_.end()) throw Error(ErrorCode::operation_failed, "nobody listens on this port of the guest");
    callback = found->second;
  }
  callback(std::move(pair.first));
  return std::move(pair.second);
}

void FakeStreams::lose(const std::string& reason) {
  std::vector<std::function<void(const std::string&)>> callbacks;
  {
    std::lock_guard lock(mutex_);
    if (!alive_) return;
    alive_ = false;
    reason_ = reason;
    callbacks.swap(lost_callbacks_);
  }
  for (const auto& callback : callbacks) callback(reason);
}

std::vector<guest::ExecSpec> FakeStreams::executed() const {
  std::lock_guard lock(mutex_);
  return executed_;
}

}  // namespace agentvm::test
