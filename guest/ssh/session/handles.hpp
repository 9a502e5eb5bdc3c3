#pragma once
// Owners for libssh's C types. Private to guest/ssh.

#include <memory>
#include <string>
#include <string_view>

#include <libssh/callbacks.h>
#include <libssh/libssh.h>

namespace agentvm::guest {

struct LibsshDeleter {
  void operator()(char* text) const { ssh_string_free_char(text); }
  void operator()(ssh_key key) const { ssh_key_free(key); }
  void operator()(ssh_event event) const { ssh_event_free(event); }
  void operator()(ssh_session session) const { ssh_free(session); }
};
using StringPtr = std::unique_ptr<char, LibsshDeleter>;
using KeyPtr = std::unique_ptr<ssh_key_struct, LibsshDeleter>;
using EventPtr = std::unique_ptr<ssh_event_struct, LibsshDeleter>;
/// Freeing a session frees every channel of it, and closes its socket.
using SessionPtr = std::unique_ptr<ssh_session_struct, LibsshDeleter>;

/// Throws `usage` when `line` is no "ssh-ed25519 AAAA..." line.
KeyPtr parse_public_line(std::string_view line);
/// "SHA256:...".
std::string fingerprint(ssh_key key);

}  // namespace agentvm::guest
