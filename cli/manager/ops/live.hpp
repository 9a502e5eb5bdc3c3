#pragma once
// What the manager holds open into one running guest. All of it can be lost and made again from the record: kill -9 of
// the manager costs nothing but this object.

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "guest/control/control.hpp"
#include "guest/ssh/ssh.hpp"
#include "guest/streams.hpp"

namespace agentvm::manager {

/// Which of the two ssh sessions: exec, attach and sync on one; egress and the proxy on the other, so that bulk data of
/// one never delays a keystroke of the other.
enum class Session { control, data };

/// For dialling a guest that is up: whom its sshd has not let in by then it will not.
inline constexpr milliseconds let_in_limit{30'000};

/// Thread-safe. Sessions are dialled when first asked for and again after a loss.
class LiveSandbox {
 public:
  explicit LiveSandbox(guest::SshEndpoint endpoint) : endpoint_(std::move(endpoint)) {}

  /// Alive when returned; dials when there is none. Throws what `connect_ssh` throws, `cancelled` after `end_dialling`.
  std::shared_ptr<guest::Streams> session(Session which, Deadline deadline);
  /// The session when it is there and alive.
  std::shared_ptr<guest::Streams> session_if_alive(Session which) const;
  /// For what must not wait for a second one to be dialled: the control session, else the data session, else null.
  std::shared_ptr<guest::Streams> any_session_if_alive() const;
  /// Called with each new data session, before anybody else gets it: egress hangs its listener in here; what it returns
  /// lives as long as the session. May throw: the dial fails. Set before the first `session`.
  void on_data_session(std::function<std::unique_ptr<guest::Listener>(guest::Streams&, Deadline)> callback) {
    on_data_session_ = std::move(callback);
  }
  /// Called when the data session is lost while the sandbox is live, on an unspecified thread.
  void on_data_lost(std::function<void()> callback) { on_data_lost_ = std::move(callback); }

  void set_control(std::shared_ptr<guest::Control> control);
  std::shared_ptr<guest::Control> control() const;
  const guest::SshEndpoint& endpoint() const { return endpoint_; }
  /// While true, sessions that are open outlast a guest that says nothing: its vCPUs are stopped.
  void expect_silence(bool silent);
  bool silent() const { return silent_; }
  /// Whoever dials now, or will, gives up; sessions that are open stay so.
  void end_dialling() { ending_.request_stop(); }
  /// Ends sessions and the agent connection. What still uses them sees a lost connection.
  void close();

 private:
  const guest::SshEndpoint endpoint_;
  std::function<std::unique_ptr<guest::Listener>(guest::Streams&, Deadline)> on_data_session_;
  std::function<void()> on_data_lost_;
  mutable std::mutex mutex_;  // guards the members below
  std::shared_ptr<guest::Streams> sessions_[2];
  std::unique_ptr<guest::Listener> egress_;
  std::shared_ptr<guest::Control> control_;
  bool closed_ = false;
  std::stop_source ending_;
  std::atomic<bool> silent_ = false;
  std::timed_mutex dialling_[2];  // one dial at a time per session; taken before mutex_
};

}  // namespace agentvm::manager
