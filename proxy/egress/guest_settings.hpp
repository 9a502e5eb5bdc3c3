#pragma once
// What a guest's programs must know to use the proxy at 127.0.0.1:3128. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "proxy/egress/sources.hpp"

namespace agentvm::egress {

inline constexpr std::uint16_t guest_proxy_port = 3128;

struct GuestFile {
  std::string path, content;
  unsigned mode = 0644;
};
struct GitSetting {
  std::string key, value;
};
struct GuestSettings {
  /// Lines for /etc/environment, "name=value": appended by whoever owns that file. Sessions get them through PAM.
  std::vector<std::string> environment;
  /// Whole files: a profile snippet, the settings of apt, npm, pip and browsers, and systemd's default environment for
  /// services (docker's daemon among them).
  std::vector<GuestFile> files;
  /// For the system-wide git configuration, which is composed elsewhere.
  std::vector<GitSetting> git;
};

/// `npm.registry` and `pip.index` reach the guest only without credentials (they never have any here).
GuestSettings guest_settings(const NpmConfig& npm, const PipConfig& pip, std::uint16_t port = guest_proxy_port);

}  // namespace agentvm::egress
