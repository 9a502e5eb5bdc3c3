#pragma once
// The thread of one ssh session. Everything that touches libssh happens on it.

#include <atomic>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "guest/ssh/session/handshake.hpp"
#include "guest/ssh/session/mailbox.hpp"
#include "guest/ssh/session/pump.hpp"

namespace agentvm::guest {

/// More channels than this at once are refused: each costs up to some megabytes when its reader stalls.
inline constexpr std::size_t channel_limit = 1024;

/// What all channels of a session may hold for readers that stall: about 64 of them. Beyond it the largest channel is
/// closed.
inline constexpr std::size_t session_backlog_limit_bytes = 256u << 20;

/// A channel that has just opened; the caller's ends of it.
struct Opened {
  UniqueFd io, err;
  std::uint64_t id = 0;  ///< names the channel in later commands
};

class Loop : public std::enable_shared_from_this<Loop> {
 public:
  Loop(SshEndpoint endpoint, SshOptions options);
  ~Loop();

  // From any thread but the loop's own.
  /// Starts the thread and waits for the handshake, which `called_off` ends; throws what it threw.
  void start(Deadline deadline, const std::stop_token& called_off);
  /// Ends the session and waits for the thread (not when called on it).
  void stop();
  /// Throws `operation_failed` with the reason when the connection is gone.
  void check_alive() const;
  bool alive() const;
  void on_lost(std::function<void(const std::string&)> callback);

  struct ProcessRequest {
    std::string command, term;
    std::optional<PtySize> pty;
    std::function<void(const GuestStatus&)> on_status;  ///< on the loop's thread
  };
  Opened open_process(ProcessRequest request, Deadline deadline);
  Opened dial(const std::string& host, std::uint16_t port, Deadline deadline);
  void dial_async(const std::string& host, std::uint16_t port, Deadline deadline,
                  std::function<void(UniqueFd, const Error*)> callback);
  void listen(std::uint16_t port, std::function<void(UniqueFd)> on_connection, Deadline deadline);
  // These return at once; a channel or port that is gone is ignored.
  void unlisten(std::uint16_t port);
  void release(std::uint64_t id);
  void resize(std::uint64_t id, PtySize size);
  void signal(std::uint64_t id, std::string name);
  void expect_silence(bool silent) { silent_ = silent; }

 private:
  using Steps = std::vector<std::function<int()>>;
  struct Opening {  // a channel on its way: each step is repeated while libssh says "again"
    std::unique_ptr<Pump> pump;
    Steps steps;
    std::size_t at = 0;
    Deadline deadline;
    std::shared_ptr<Answer<Opened>> answer;
    std::string what;
  };
  struct GlobalRequest {  // sshd answers these in order and without a name: one at a time
    std::function<int()> step;
    std::function<void(int result, const std::string& error)> done;
  };
  static int on_message(ssh_session, ssh_message message, void* self);

  void run(std::shared_ptr<Answer<bool>> connected, Deadline deadline);
  void serve();
  int poll_timeout() const;
  void process_session();
  void step_openings();
  void step_globals();
  void announce_incoming();
  void service_pumps();
  void keep_alive();
  bool writable() const;
  void end(const std::string& reason);
  Opened wait_opened(const std::shared_ptr<Answer<Opened>>& answer, const std::string& what, Deadline deadline);
  void begin_open(Pump::Kind kind, std::function<Steps(Pump&)> steps, std::shared_ptr<Answer<Opened>> answer,
                  std::string what, Deadline deadline);
  void post_or_fail(std::function<void()> task);
  std::function<void()> dial_task(const std::string& host, std::uint16_t port, std::shared_ptr<Answer<Opened>> answer,
                                  Deadline deadline);
  Error lost_error() const;
  Pump* find(std::uint64_t id);

  const SshEndpoint endpoint_;
  const SshOptions options_;
  std::atomic<bool> silent_ = false;
  Mailbox mailbox_;
  std::thread thread_;

  mutable std::mutex mutex_;
  enum class State { connecting, alive, lost } state_ = State::connecting;  // guarded by mutex_
  bool stopping_ = false;                                                   // guarded by mutex_
  std::string reason_;                                                      // guarded by mutex_
  std::vector<std::function<void(const std::string&)>> lost_callbacks_;     // guarded by mutex_

  // The rest belongs to the thread.
  Handshake link_;
  EventPtr event_;
  std::map<std::uint64_t, std::unique_ptr<Pump>> pumps_;
  std::uint64_t next_id_ = 1, turn_ = 0;
  std::list<Opening> openings_;
  std::deque<GlobalRequest> globals_;
  struct Incoming {
    std::uint16_t port;
    std::unique_ptr<Pump> pump;
  };
  std::vector<Incoming> incoming_;
  std::map<std::uint16_t, std::function<void(UniqueFd)>> listeners_;
  std::vector<pollfd> fds_;
  SteadyTime last_heard_{}, last_probe_{};
  ssh_counter_struct socket_counter_{};  ///< libssh counts here
  std::uint64_t bytes_heard_ = 0;
  bool end_now_ = false;
};

}  // namespace agentvm::guest
