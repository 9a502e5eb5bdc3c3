#pragma once
// From nothing to an authenticated libssh session, without blocking past a deadline.

#include <functional>

#include "guest/ssh/session/handles.hpp"
#include "guest/ssh/ssh.hpp"

namespace agentvm::guest {

struct Handshake {
  SessionPtr session;
  int socket = -1;  ///< owned by `session`
};

/// Connects, exchanges keys, compares the pinned host key, authenticates. `cancel_fd` becoming readable ends it early.
/// Throws `timed_out`, `operation_failed` or `cancelled`. Nothing of the client key leaves before the host key matched.
Handshake shake_hands(const SshEndpoint& endpoint, const SshOptions& options, Deadline deadline, int cancel_fd);

/// What libssh last complained about, fit to be shown.
std::string ssh_error_text(ssh_session session);

}  // namespace agentvm::guest
