#pragma once
// Streams over ssh: one connection into one running guest. See README.md for how it works.

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "guest/streams.hpp"

namespace agentvm::guest {

/// Where a guest's sshd answers and who it must prove to be.
struct SshEndpoint {
  std::string host = "127.0.0.1";  ///< a numeric address: nothing is resolved
  std::uint16_t port = 0;
  std::string user = "agent";
  std::string private_key;  ///< the client key: OpenSSH PEM text, or the path of a file that holds it
  std::string host_key;     ///< the pinned key as one line, "ssh-ed25519 AAAA... [comment]"; anything else at the other
                            ///< end ends the handshake
  std::string name;         ///< the sandbox, for logs and messages
};

struct SshOptions {
  milliseconds keepalive_timeout{
      15000};                     ///< silence for this long is a lost connection; a probe goes out after a third of it
  std::uint64_t rekey_bytes = 0;  ///< new keys after this much data; 0 = the cipher's own limit (64 GiB)
};

/// Connects, compares the host key, only then authenticates, and starts the thread that owns the session.
/// Throws `operation_failed` (refused, wrong key, not let in), `timed_out`, `cancelled` (soon after `stop`).
/// Thread-safe; blocks at most until `deadline`.
std::unique_ptr<Streams> connect_ssh(const SshEndpoint& endpoint, Deadline deadline, const SshOptions& options = {},
                                     const std::stop_token& stop = {});

}  // namespace agentvm::guest
