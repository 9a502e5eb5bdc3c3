#pragma once
// One channel: moves bytes between libssh and the socketpair whose other end the caller holds. Lives on the session's
// thread.

#include <functional>
#include <string>
#include <vector>

#include <poll.h>

#include "guest/ssh/session/handles.hpp"
#include "guest/streams.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::guest {

/// More than this unread in libssh means that the guest ignores the window, or that libssh 0.10 grew it past all bounds
/// (README.md). A TCP channel cannot get there by any mistake of libssh's; its window alone is below 2 MiB.
inline constexpr std::size_t process_backlog_limit_bytes = 32u << 20;
inline constexpr std::size_t tcp_backlog_limit_bytes = 4u << 20;

class Pump {
 public:
  enum class Kind { process, tcp };
  /// Takes `channel` over: it is freed once both sides have closed it. `on_status` is called once, with how the process
  /// ended.
  Pump(ssh_channel channel, Kind kind);
  ~Pump();
  Pump(const Pump&) = delete;
  Pump& operator=(const Pump&) = delete;

  ssh_channel channel() const { return channel_; }
  /// The caller's ends of the stream and of standard error (the second only once `with_stderr` was called).
  UniqueFd take_io() { return std::move(user_io_); }
  UniqueFd take_err() { return std::move(user_err_); }
  void with_stderr();
  void on_status(std::function<void(const GuestStatus&)> callback) { on_status_ = std::move(callback); }
  /// From here on bytes flow; before, what comes stays in libssh.
  void start() { started_ = true; }

  /// Appends what poll(2) is to watch, at most two entries. `may_write`: libssh's own output is not backed up.
  void watch(std::vector<pollfd>& fds, bool may_write);
  /// Moves what can be moved. `fds` is the vector given to `watch`, after poll.
  void service(const std::vector<pollfd>& fds, bool may_write);
  /// Bytes taken from the guest that the caller has not taken yet.
  std::size_t backlog() const { return out_.held.size() + out_.waiting + err_.held.size() + err_.waiting; }
  /// As `close`, with a reason for the log.
  void give_up(std::string reason);
  /// Closes the channel; what the guest still sends is dropped.
  void close();
  /// The caller is done with the process. One that still runs is hung up on; of one that has ended, the output that the
  /// reader has not taken yet still flows, until it is all taken or the reader goes.
  void release();
  void resize(PtySize size);
  void signal(const std::string& name);

  /// Closed by both sides: the pump can be destroyed.
  bool finished() const { return closing_ && remote_closed_; }
  bool closing() const { return closing_; }
  /// When something must be done without any descriptor becoming ready.
  Deadline due() const { return linger_; }
  /// Why the pump closed the channel by itself; empty unless that is worth telling.
  const std::string& fault() const { return fault_; }

 private:
  struct Sink {  // towards the caller
    UniqueFd fd;
    std::string held;         // taken out of libssh, not yet taken by the caller
    std::size_t waiting = 0;  // bytes that libssh holds
    bool broken = false;      // the caller closed its end
    bool stalled() const { return waiting > 0 || !held.empty(); }
  };
  static int on_data(ssh_session, ssh_channel, void* data, uint32_t size, int is_stderr, void* self);
  static void on_eof(ssh_session, ssh_channel, void* self);
  static void on_close(ssh_session, ssh_channel, void* self);
  static void on_exit_status(ssh_session, ssh_channel, int status, void* self);
  static void on_exit_signal(ssh_session, ssh_channel, const char* name, int core, const char* text,
                             const char* language, void* self);

  std::size_t deliver(Sink& sink, const char* data, std::size_t size);
  void drain(Sink& sink, bool is_stderr);
  void read_input();
  void write_input();
  void end_output();
  void report(GuestStatus status);

  ssh_channel channel_;
  Kind kind_;
  ssh_channel_callbacks_struct callbacks_{};
  std::function<void(const GuestStatus&)> on_status_;
  UniqueFd user_io_, user_err_;
  Sink out_, err_;
  UniqueFd& io_ = out_.fd;
  std::string input_;  // from the caller, not yet taken by libssh
  std::size_t io_slot_ = no_slot, err_slot_ = no_slot;
  Deadline linger_ = Deadline::never();
  bool started_ = false, input_ended_ = false, eof_sent_ = false, hung_up_ = false, output_ended_ = false;
  bool remote_eof_ = false, remote_closed_ = false, closing_ = false, overrun_ = false;
  bool status_known_ = false, released_ = false;
  std::string fault_;
  static constexpr std::size_t no_slot = static_cast<std::size_t>(-1);
};

}  // namespace agentvm::guest
