#pragma once
// The host's side of a guest's agent port: requests with deadlines, from any thread.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "guest/control/identity.hpp"
#include "vmm/base/clock.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest {

struct Hello {
  std::string version;  ///< of the guest's agent; cleaned
  std::string boot_id;
  std::int64_t uptime_milliseconds = 0;
  enum class Stage {
    init,     ///< the identity is still to come
    waiting,  ///< userspace is up, and the identity that counts is still to come
    running,
  } stage = Stage::init;
};

/// A program run as part of controlling the guest: short, without a terminal. What the user runs goes over ssh.
struct ControlExec {
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;
  std::string cwd;    ///< empty: the user's home
  std::string user;   ///< empty: root
  std::string input;  ///< at most 1 MiB
};

struct ControlResult {
  int code = 0;            ///< exit code when `signal` is 0
  int signal = 0;          ///< the number of the signal that ended it
  std::string out, err;    ///< raw guest bytes: clean them before showing
  bool truncated = false;  ///< more came than was asked to be kept
  bool ok() const { return code == 0 && signal == 0; }
};

/// A TCP port that something in the guest listens on. Checked and cleaned: safe to show.
struct GuestPort {
  std::uint16_t number = 0;
  std::string address;  ///< an IP address, as inet_ntop writes it
  std::string process, folder;
};
struct GuestPorts {
  std::string token;  ///< for the next call
  std::vector<GuestPort> ports;
};

/// What a guest says about its workspace's references. A hint to look, nothing more: `token` is compared, never
/// trusted.
struct GuestRefs {
  std::string token;   ///< for the next call; 1 to 64 hexadecimal digits
  bool whole = false;  ///< whether it stands for every reference: only then an equal token says that nothing changed
};

/// Branches and tags of the repository in /workspace, each as its file has it. Names are printable ASCII.
struct GuestReferences {
  std::string head;                         ///< "refs/heads/main"; empty where HEAD is on no branch
  std::map<std::string, std::string> tips;  ///< "refs/heads/main" -> 40 hexadecimal digits
};
/// Id -> the loose object's file: any bytes.
using GuestObjects = std::map<std::string, std::string>;

/// What the program of a terminal session does, as far as its terminal tells. Checked and cleaned.
inline constexpr const char* session_states[] = {"working", "waiting", "ended", "gone"};
struct GuestSession {
  std::string name;
  std::string state;  ///< one of `session_states`
  int code = 0;       ///< of "ended"; 0 to 255
};
struct GuestSessions {
  std::string token;  ///< for the next call
  std::vector<GuestSession> sessions;
};

/// The guest's own virtual machines, as its agent tells.
struct GuestNested {
  std::string token;               ///< for the next call
  bool limited = false;            ///< whether caps are in force; what follows is only told then
  std::uint64_t memory_bytes = 0;  ///< of all of them together; 0: no limit
  std::uint64_t cpus = 0;          ///< likewise
  std::uint64_t machines = 0;      ///< that run
  std::uint64_t ended = 0;         ///< by the guest's kernel, for memory, since the guest's start
};

/// A connection to the agent of one guest. Thread-safe; no call outlasts its deadline. Nothing that the guest does
/// makes it use unbounded memory: a guest that breaks the protocol loses the connection with a reason. Once lost it
/// stays lost: connect anew.
class Control {
 public:
  /// Throws `not_found` when nobody listens on the socket. The guest need not run yet.
  static std::unique_ptr<Control> connect(const fs::path& socket, Deadline deadline);
  /// Takes a connected stream socket.
  explicit Control(UniqueFd fd);
  /// Waits for the callback of `on_lost` if it is running. Must not be called from it.
  ~Control();

  /// Repeats hello until the guest answers. First of all calls; may be called again (answers from memory).
  Hello hello(Deadline deadline);
  /// Applied and written when it returns; then the guest goes on to start its userspace. `unix_ns` 0 becomes the time
  /// of sending. An error names the step that failed; a guest that could not apply its identity powers off. While
  /// running, it updates clock and hostname.
  void identify(const Identity& identity, Deadline deadline);
  /// What a guest whose identity was `for_template` has to do before it is saved; it notes `nonce` in its memory.
  /// Throws `operation_failed` when it is not what a template must be, `usage` when the guest's agent knows no
  /// templates.
  void freeze(const std::string& nonce, Deadline deadline);
  /// A program that outlives the deadline is killed. Keeps at most `limit_bytes` of each stream. Throws `wrong_state`
  /// before `identify`.
  ControlResult exec(const ControlExec& spec, Deadline deadline, std::size_t limit_bytes = 1u << 20);
  /// "ssh" (sshd takes logins), "workspace" (/workspace is mounted) or "userspace" (systemd reached multi-user). Throws
  /// `timed_out`.
  void wait_until(const std::string& what, Deadline deadline);
  /// The guest's clock, nanoseconds since 1970.
  std::int64_t time(Deadline deadline);
  void set_time(std::int64_t unix_ns, Deadline deadline);
  /// Writes the guest's dirty pages to its disk.
  void sync(Deadline deadline);
  /// Asks for an orderly power-off, by force after `patience`; returns when the guest has taken the request.
  void shutdown(milliseconds patience, Deadline deadline);

  /// What listens, as soon as it differs from `known` (a token; empty: at once), and in any case after `patience`.
  /// Throws `cancelled` when stopped.
  GuestPorts ports(const std::string& known, milliseconds patience, std::stop_token stop, Deadline deadline);
  /// A token of the references in /workspace, as soon as it differs from `known`, and in any case after `patience`.
  /// Throws `cancelled` when stopped, `usage` when the guest's agent is older than this operation.
  GuestRefs refs(const std::string& known, milliseconds patience, std::stop_token stop, Deadline deadline);
  /// The references in /workspace, read from their files; nothing where only git can tell them. Throws `cancelled` when
  /// stopped, `usage` when the guest's agent is older than this operation.
  std::optional<GuestReferences> references(std::stop_token stop, Deadline deadline);
  /// Those of the objects (40 hexadecimal digits each, at most `object_request_limit`) that are loose in /workspace, as
  /// many as fit one answer. Throws as `references`.
  GuestObjects objects(const std::vector<std::string>& ids, std::stop_token stop, Deadline deadline);
  /// What terminal sessions do, as soon as it differs from `known`, and in any case after `patience`. Throws as `refs`.
  GuestSessions sessions(const std::string& known, milliseconds patience, std::stop_token stop, Deadline deadline);
  /// What the guest's own virtual machines take, as soon as it differs from `known`, and in any case after `patience`.
  /// Throws as `refs`.
  GuestNested nested(const std::string& known, milliseconds patience, std::stop_token stop, Deadline deadline);
  bool alive() const;
  std::string lost_reason() const;
  /// Called once, on the reader thread; at once, on this thread, when it is lost already. Must not block. One callback:
  /// the last set.
  void on_lost(std::function<void(const std::string& reason)> callback);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace agentvm::guest
