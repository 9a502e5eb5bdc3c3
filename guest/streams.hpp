#pragma once
// The one border between what runs in a guest and what uses it: every stream is a connected descriptor.
// sync, proxy and cli see this header and nothing else of guest/.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::guest {

struct PtySize {
  unsigned columns = 80, rows = 24;
};

struct ExecSpec {
  std::vector<std::string> argv;  ///< quoted for the guest's shell by us; argv[0] is looked up in the guest's PATH
  std::map<std::string, std::string> env;  ///< added to the login environment
  std::string workdir;                     ///< empty: the user's home
  std::string user;                        ///< empty: the session's user (agent); another one goes through sudo -n
  std::optional<PtySize> pty;              ///< set: a terminal; standard error then comes with standard output
  std::string term = "xterm-256color";     ///< TERM, with a pty
};

/// How a guest process ended. Never mixed up with our own exit codes.
struct GuestStatus {
  enum class Kind { exited, signaled, lost } kind = Kind::lost;
  int code = 0;        ///< with `exited`
  std::string signal;  ///< with `signaled`: "TERM", without SIG
  /// What a shell would return: the code, 128 + signal number, or 125 when the connection was lost.
  int shell_code() const;
};

/// A process in the guest. Thread-safe. Destroying it hangs up on one that runs (SIGHUP with a pty, EOF and
/// closed pipes without); of one that has ended, what was not read yet can still be read.
class Exec {
 public:
  virtual ~Exec() = default;
  /// Bidirectional stream: write = standard input, read = standard output. shutdown(SHUT_WR) on it is end of input.
  /// Once only.
  virtual UniqueFd take_io() = 0;
  /// Standard error; empty with a pty. Once only.
  virtual UniqueFd take_err() = 0;
  virtual void resize(PtySize size) = 0;
  /// `name` without SIG: "INT", "TERM".
  virtual void signal(std::string_view name) = 0;
  /// Nothing when the deadline passed first. The status may come before the last output was read: drain the
  /// descriptors.
  virtual std::optional<GuestStatus> wait(Deadline deadline) = 0;
  /// Called once, on an unspecified thread, when the process ended (at once when it already has). Must not block.
  virtual void on_end(std::function<void(const GuestStatus&)> callback) = 0;
};

/// A port in the guest that we answer. Destroying it stops listening; connections made go on.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual std::uint16_t guest_port() const = 0;
};

/// Connections into one running guest. Thread-safe; no call blocks past its deadline. When the connection to the guest
/// is lost every descriptor ends, every call throws `operation_failed`, and `alive` is false for good: make a new one.
class Streams {
 public:
  virtual ~Streams() = default;
  virtual bool alive() const = 0;
  /// TCP from inside the guest (its own loopback for "127.0.0.1" and "::1"). Throws `operation_failed` when refused.
  virtual UniqueFd dial(const std::string& host, std::uint16_t port, Deadline deadline) = 0;
  /// Exactly one of both: the connection, or why there is none.
  using Dialled = std::function<void(UniqueFd connection, const Error* error)>;
  /// As `dial`, without waiting and without throwing: `callback` is called exactly once, on an unspecified thread
  /// (maybe within this call), and must not block.
  virtual void dial_async(const std::string& host, std::uint16_t port, Deadline deadline, Dialled callback) = 0;
  /// Listens on 127.0.0.1:`port` in the guest; `on_connection` gets each connection, on an unspecified thread, and must
  /// not block.
  virtual std::unique_ptr<Listener> accept(std::uint16_t port, std::function<void(UniqueFd)> on_connection,
                                           Deadline deadline) = 0;
  virtual std::unique_ptr<Exec> exec(const ExecSpec& spec, Deadline deadline) = 0;
  /// While true, a guest that says nothing is not taken for lost: its vCPUs are stopped. What watches for no silence
  /// ignores it.
  virtual void expect_silence(bool) {}
  /// Called once when the connection is lost or closed, on an unspecified thread; at once when it already is.
  virtual void on_lost(std::function<void(const std::string& reason)> callback) = 0;
};

}  // namespace agentvm::guest
