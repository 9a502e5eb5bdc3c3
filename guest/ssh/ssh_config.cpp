#include "guest/ssh/ssh_config.hpp"

#include <fmt/format.h>

#include "vmm/base/error.hpp"

namespace agentvm::guest {
namespace {

// ssh_config knows double quotes and no escape inside them; '%' starts a token and "${" a variable in these keywords.
std::string quoted_path(const std::filesystem::path& path) {
  const std::string& text = path.native();
  std::string result = "\"";
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"' || text[i] == '\n' || text[i] == '\r' || text[i] == '\\')
      throw Error(
          ErrorCode::usage,
          fmt::format("the path {} holds a quote, a backslash or a newline, which ssh's configuration cannot express",
                      text),
          "AGENTVM_HOME=/another/path agentvm ssh-config");
    if (text[i] == '$' && i + 1 < text.size() && text[i + 1] == '{')
      throw Error(ErrorCode::usage,
                  fmt::format("the path {} holds '${{', which ssh's configuration would expand", text),
                  "AGENTVM_HOME=/another/path agentvm ssh-config");
    result += text[i];
    if (text[i] == '%') result += '%';
  }
  return result + '"';
}

}  // namespace

std::string ssh_host_alias(const std::string& name) {
  return "agentvm-" + name;
}

std::string ssh_config_stanza(const SshStanza& stanza) {
  std::string text;
  const auto line = [&](std::string_view keyword, const std::string& value) {
    text += fmt::format("  {} {}\n", keyword, value);
  };
  text += fmt::format("Host {}\n", ssh_host_alias(stanza.name));
  line("HostName", stanza.host);
  line("Port", std::to_string(stanza.port));
  line("User", stanza.user);
  line("IdentityFile", quoted_path(stanza.identity_file));
  line("IdentitiesOnly", "yes");
  line("IdentityAgent", "none");
  line("UserKnownHostsFile", quoted_path(stanza.known_hosts_file));
  line("GlobalKnownHostsFile", "/dev/null");
  line("HostKeyAlias", ssh_host_alias(stanza.name));
  line("HostKeyAlgorithms", "ssh-ed25519");
  line("StrictHostKeyChecking", "yes");
  line("UpdateHostKeys", "no");  // a guest adds no keys to the host's files
  line("PasswordAuthentication", "no");
  line("KbdInteractiveAuthentication", "no");
  line("ForwardAgent", "no");  // the guest is not trusted with the host's keys
  line("ForwardX11", "no");
  line("ServerAliveInterval", "15");
  line("LogLevel", "ERROR");
  return text;
}

std::string known_hosts_line(const std::string& name, const std::string& public_line) {
  return fmt::format("{} {}\n", ssh_host_alias(name), public_line);
}

}  // namespace agentvm::guest
