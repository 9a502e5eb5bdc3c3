#pragma once
// The guest's end of the agent port: one thread, one poll loop, bounded everything. It knows no virtio: it gets a
// descriptor and a root folder, so that tests run it on a socketpair.
//
// Flow: bytes -> FrameParser (skips garbage: the host may have been killed in the middle of a frame) -> one handler per
// op -> frames in `outgoing_`. Programs' output is read only while their window and `outgoing_` have room, so a stalled
// host stalls the program, not us. A hello with a new nonce, or the host's end closing, starts a new session: running
// programs are killed, queued frames are dropped.

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>

#include "guest/agent/exec_job.hpp"
#include "guest/agent/port_watch.hpp"
#include "guest/agent/ref_watch.hpp"
#include "guest/agent/session_watch.hpp"
#include "guest/agent/token_waiters.hpp"
#include "guest/protocol/identity.hpp"

struct pollfd;

namespace agentvm::guest::agent {

enum class Stage {
  init,
  waiting,  ///< userspace is up, but the machine is nobody's yet: a template, or one that went on from it
  running,
};
/// What an end of file on the descriptor means.
enum class Transport {
  socket,  ///< the end
  port,    ///< a virtio-serial port: the host is not connected now and may come again
};

struct ServerOptions {
  std::filesystem::path root = "/";  ///< the guest's root: /etc/passwd, /proc, /workspace are looked up below it
  Transport transport = Transport::socket;
  Stage stage = Stage::init;
  std::string boot_id;
  unsigned ssh_port = 22;
  /// The first identity (stage init). Errors become the answer.
  std::function<void(const Identity&)> apply;
  /// The identity that counts (stage waiting); returns the new boot id. Errors become the answer.
  std::function<std::string(const Identity&)> adopt;
  /// An identity while running: what can be updated (clock, hostname).
  std::function<void(const Identity&)> update;
  std::function<void(std::int64_t unix_ns)> set_time;
  std::function<void(milliseconds patience)> power_off;
};

class Server {
 public:
  enum class End { identity_applied, identity_failed, closed, deadline };

  /// `fd` is borrowed and made non-blocking.
  Server(int fd, ServerOptions options);
  ~Server();

  /// Serves until the deadline, the end of the stream (socket), or - with stage init - until `apply` was called and its
  /// answer written. May be called again.
  End run(Deadline deadline);
  /// Stage running, from now on.
  void set_running(WorkspaceKind workspace);
  /// Stage waiting, from now on. A machine that nobody talks to powers off after a minute.
  void set_waiting();
  bool waits() const { return options_.stage == Stage::waiting; }
  WorkspaceKind workspace() const { return workspace_; }
  /// Tells the host; flushes for at most `patience`.
  void send_event(const Json& event, milliseconds patience);

 private:
  struct Waiter {
    std::uint32_t id;
    std::string what;
    Deadline deadline;
  };
  enum class Slot { port, input, output, error, exit, probe, refs };

  void step(Deadline deadline);
  int poll_timeout(Deadline deadline) const;
  void read_port();
  void write_port();
  void wait_for_host(Deadline deadline);
  /// Programs end, what is queued is dropped.
  void forget_session();
  /// And the other side is gone.
  void end_session();
  void handle(const Frame& frame);
  void handle_request(const Frame& frame);
  void dispatch(std::uint32_t id, const std::string& op, const Json& request);
  void hello(std::uint32_t id, const Json& request);
  void freeze(std::uint32_t id, const Json& request);
  void check_company();
  void identity(std::uint32_t id, const Json& request);
  void start_exec(std::uint32_t id, const Json& request);
  void handle_input(const Frame& frame);
  void cancel(std::uint32_t id);
  void serve_job(ExecJob& job, Slot slot);
  void finish_jobs();
  void check_waiters();
  bool holds(const std::string& what);
  bool userspace_ready();
  void ports(std::uint32_t id, const Json& request);
  void check_ports();
  milliseconds port_patience() const;
  void refs(std::uint32_t id, const Json& request);
  void check_refs();
  milliseconds ref_patience() const;
  void sessions(std::uint32_t id, const Json& request);
  void references(std::uint32_t id, const Json& request);
  void objects(std::uint32_t id, const Json& request);
  void check_sessions();
  milliseconds session_patience() const;
  void nested(std::uint32_t id, const Json& request);
  void check_nested();
  milliseconds nested_patience() const;
  void answer(std::uint32_t id, Json body);
  void refuse(std::uint32_t id, const Error& error);
  void send(FrameType type, std::uint32_t id, std::string payload);
  ExecJob* find_job(std::uint32_t id);

  int fd_;
  ServerOptions options_;
  FrameParser parser_{FrameParser::Garbage::skip};
  SteadyTime last_bytes_{};
  std::string outgoing_;
  std::string nonce_;
  bool connected_ = true, ended_ = false, identity_applied_ = false, identity_failed_ = false;
  UniqueFd host_watch_;  // edge-triggered epoll on the port: the only way to sleep until the host connects
  std::list<ExecJob> jobs_;
  std::deque<Waiter> waiters_;
  std::optional<PortWatch> ports_;  // these three from the first request on
  std::optional<RefWatch> refs_;
  std::optional<SessionWatch> sessions_;
  TokenWaiters port_waiters_{"ports"}, ref_waiters_{"refs"}, session_waiters_{"sessions"}, nested_waiters_{"nested"};
  SteadyTime next_port_look_{}, next_session_look_{}, next_nested_look_{};
  Json nested_state_;
  WorkspaceKind workspace_ = WorkspaceKind::none;
  std::optional<Deadline> alone_until_;  // stage waiting, without a host
  std::optional<Process> probe_;
  bool userspace_ = false;
  SteadyTime next_probe_{};
};

}  // namespace agentvm::guest::agent
