#pragma once
// The client's end of the manager's socket, and how a manager comes to be there.

#include <deque>
#include <optional>
#include <vector>

#include "cli/wire/lines.hpp"
#include "cli/wire/messages.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/paths.hpp"

namespace agentvm::cli {

/// The connection ended before the answer: the manager was killed or has left. Not an `Error`: callers decide what it
/// means.
struct ManagerLost {};

/// Blocking, single-threaded. Hellos are exchanged in the constructor.
class Connection {
 public:
  /// Throws `not_found` when nobody listens, `operation_failed` when another user's process does, ManagerLost when it
  /// ended before its hello.
  Connection(const Paths& paths, Deadline deadline);

  const wire::Hello& manager() const { return manager_; }
  int fd() const { return socket_.get(); }
  /// Throws ManagerLost when the manager has gone.
  void send(const Json& line);
  /// The next message, or nothing at the deadline. Throws ManagerLost at the end of the connection, `operation_failed`
  /// for nonsense.
  std::optional<wire::ServerMessage> receive(Deadline deadline);
  /// Descriptors of a "streams" event just received. Throws `operation_failed` when fewer came.
  std::vector<UniqueFd> take_fds(std::size_t count);
  std::uint64_t next_id() { return ++last_id_; }

 private:
  std::string receive_line(Deadline deadline);
  std::optional<std::string> try_line(Deadline deadline);
  UniqueFd socket_;
  wire::LineBuffer lines_{wire::line_limit_bytes};
  std::deque<UniqueFd> fds_;
  wire::Hello manager_;
  std::uint64_t last_id_ = 0;
};

enum class Spawn { allowed, never };

/// A connection to a manager of our version. With `allowed`, starts one where none answers and asks one of another
/// version to retire. With `never`, throws `not_found` when none answers and takes any version. Throws naming the log
/// when one does not come up.
Connection connect_manager(const Paths& paths, Spawn spawn);

/// The environment that a manager is started with: what it needs to find its folders and programs, no secrets of this
/// shell.
std::map<std::string, std::string> manager_environment();

}  // namespace agentvm::cli
