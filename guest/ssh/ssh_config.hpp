#pragma once
// The texts by which the system's own OpenSSH, and everything built on it (git, rsync, editors), reaches a guest. Pure.

#include <cstdint>
#include <filesystem>
#include <string>

namespace agentvm::guest {

struct SshStanza {
  std::string name;  ///< the sandbox; the host alias is "agentvm-NAME"
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  std::string user = "agent";
  std::filesystem::path identity_file;
  std::filesystem::path known_hosts_file;
};

/// "agentvm-NAME": the name in ssh's configuration and in the known_hosts file, so that a reused port never meets
/// another guest's key.
std::string ssh_host_alias(const std::string& name);
/// A `Host` block for ~/.ssh/config, ending with a newline. Throws `usage` for a path with a newline or a double quote:
/// OpenSSH cannot quote those.
std::string ssh_config_stanza(const SshStanza& stanza);
/// The known_hosts line that pins `public_line` for the alias, ending with a newline.
std::string known_hosts_line(const std::string& name, const std::string& public_line);

}  // namespace agentvm::guest
