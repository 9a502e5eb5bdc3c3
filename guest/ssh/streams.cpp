// Streams, Exec and Listener: thin, thread-safe handles on a session's thread.
#include <fmt/format.h>

#include "guest/ssh/command_line.hpp"
#include "guest/ssh/session/loop.hpp"
#include "guest/ssh/ssh.hpp"

namespace agentvm::guest {
namespace {

/// How a process ended: set on the session's thread, read by any.
class Ending {
 public:
  void set(const GuestStatus& status) {
    // Recursive, and held while the callback runs: so that it may destroy its own Exec, and no other thread can while
    // it runs.
    const std::lock_guard lock(mutex_);
    if (status_) return;
    status_ = status;
    ended_.notify_all();
    if (const auto callback = std::exchange(callback_, nullptr)) callback(status);
  }
  std::optional<GuestStatus> wait(Deadline deadline) {
    std::unique_lock lock(mutex_);
    const auto done = [this] { return status_.has_value(); };
    if (deadline.remaining() == milliseconds::max())
      ended_.wait(lock, done);
    else
      ended_.wait_until(lock, deadline.at(), done);
    return status_;
  }
  void on_end(std::function<void(const GuestStatus&)> callback) {
    const std::lock_guard lock(mutex_);
    if (status_)
      callback(*status_);
    else
      callback_ = std::move(callback);
  }
  void forget() {
    const std::lock_guard lock(mutex_);
    callback_ = nullptr;
  }

 private:
  std::recursive_mutex mutex_;
  std::condition_variable_any ended_;
  std::optional<GuestStatus> status_;                 // guarded by mutex_
  std::function<void(const GuestStatus&)> callback_;  // guarded by mutex_
};

class SshExec final : public Exec {
 public:
  SshExec(std::shared_ptr<Loop> loop, std::shared_ptr<Ending> ending, Opened opened)
      : loop_(std::move(loop)), ending_(std::move(ending)), opened_(std::move(opened)) {}
  ~SshExec() override {
    ending_->forget();
    loop_->release(opened_.id);
  }
  UniqueFd take_io() override { return take(opened_.io); }
  UniqueFd take_err() override { return take(opened_.err); }
  void resize(PtySize size) override { loop_->resize(opened_.id, size); }
  void signal(std::string_view name) override {
    // What OpenSSH takes; it ignores other names without a word, so refuse them here.
    static constexpr std::string_view known[] = {"HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2"};
    if (std::find(std::begin(known), std::end(known), name) == std::end(known))
      throw Error(ErrorCode::usage, fmt::format("signal '{}' cannot be sent over ssh", name));
    loop_->signal(opened_.id, std::string(name));
  }
  std::optional<GuestStatus> wait(Deadline deadline) override { return ending_->wait(deadline); }
  void on_end(std::function<void(const GuestStatus&)> callback) override { ending_->on_end(std::move(callback)); }

 private:
  UniqueFd take(UniqueFd& fd) {
    const std::lock_guard lock(mutex_);
    return std::move(fd);
  }
  std::shared_ptr<Loop> loop_;
  std::shared_ptr<Ending> ending_;
  std::mutex mutex_;
  Opened opened_;  // the descriptors are guarded by mutex_
};

/// The callback of a port, which must not run any more once the listener is destroyed.
struct Gate {
  std::recursive_mutex mutex;
  std::function<void(UniqueFd)> callback;  // guarded by mutex
};

class SshListener final : public Listener {
 public:
  SshListener(std::shared_ptr<Loop> loop, std::uint16_t port, std::shared_ptr<Gate> gate)
      : loop_(std::move(loop)), port_(port), gate_(std::move(gate)) {}
  ~SshListener() override {
    loop_->unlisten(port_);
    const std::lock_guard lock(gate_->mutex);
    gate_->callback = nullptr;
  }
  std::uint16_t guest_port() const override { return port_; }

 private:
  std::shared_ptr<Loop> loop_;
  std::uint16_t port_;
  std::shared_ptr<Gate> gate_;
};

class SshStreams final : public Streams {
 public:
  SshStreams(std::shared_ptr<Loop> loop, std::string user) : loop_(std::move(loop)), user_(std::move(user)) {}
  ~SshStreams() override { loop_->stop(); }
  bool alive() const override { return loop_->alive(); }

  UniqueFd dial(const std::string& host, std::uint16_t port, Deadline deadline) override {
    // Where both loopbacks are meant, "localhost" lets the guest pick the one that answers.
    return std::move(loop_->dial(host, port, deadline).io);
  }
  void dial_async(const std::string& host, std::uint16_t port, Deadline deadline, Dialled callback) override {
    loop_->dial_async(host, port, deadline, std::move(callback));
  }

  std::unique_ptr<Listener> accept(std::uint16_t port, std::function<void(UniqueFd)> on_connection,
                                   Deadline deadline) override {
    if (port == 0) throw Error(ErrorCode::usage, "a guest port must be fixed: sshd's choice is not told reliably");
    auto gate = std::make_shared<Gate>();
    gate->callback = std::move(on_connection);
    loop_->listen(
        port,
        [gate](UniqueFd fd) {
          const std::lock_guard lock(gate->mutex);
          if (const auto callback = gate->callback) callback(std::move(fd));
        },
        deadline);
    return std::make_unique<SshListener>(loop_, port, std::move(gate));
  }

  std::unique_ptr<Exec> exec(const ExecSpec& spec, Deadline deadline) override {
    auto ending = std::make_shared<Ending>();
    Loop::ProcessRequest request{guest_command(spec, user_), spec.term, spec.pty,
                                 [ending](const GuestStatus& status) { ending->set(status); }};
    Opened opened = loop_->open_process(std::move(request), deadline);
    return std::make_unique<SshExec>(loop_, std::move(ending), std::move(opened));
  }

  void expect_silence(bool silent) override { loop_->expect_silence(silent); }
  void on_lost(std::function<void(const std::string&)> callback) override { loop_->on_lost(std::move(callback)); }

 private:
  std::shared_ptr<Loop> loop_;
  std::string user_;
};

}  // namespace

std::unique_ptr<Streams> connect_ssh(const SshEndpoint& endpoint, Deadline deadline, const SshOptions& options,
                                     const std::stop_token& stop) {
  if (options.keepalive_timeout < milliseconds(300))
    throw Error(ErrorCode::usage, "an ssh keepalive below 300 ms would end working connections");
  auto loop = std::make_shared<Loop>(endpoint, options);
  loop->start(deadline, stop);
  return std::make_unique<SshStreams>(std::move(loop), endpoint.user);
}

}  // namespace agentvm::guest
