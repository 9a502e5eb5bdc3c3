#pragma once
// Key pairs for sandboxes: the guest's host key and the key that the host logs in with.

#include <string>
#include <string_view>

namespace agentvm::guest {

struct KeyPair {
  std::string private_pem;  ///< OpenSSH format, no passphrase, ends with a newline: write it with mode 0600
  std::string public_line;  ///< "ssh-ed25519 AAAA... comment", no newline
};

/// A fresh ed25519 pair that OpenSSH's ssh and sshd read. `comment` must be printable without newlines. Throws
/// `operation_failed`.
KeyPair generate_ed25519(std::string_view comment);
/// "SHA256:..." of a public key line, as `ssh-keygen -l` prints it. Throws `usage` when the line is none.
std::string key_fingerprint(std::string_view public_line);

}  // namespace agentvm::guest
