#pragma once
// The names that the reverse proxy answers to, compared exactly. Pure.

#include <cstdint>
#include <string>
#include <string_view>

namespace agentvm::proxy {

/// What a Host field means.
struct HostName {
  enum class Kind { unknown, index, sandbox } kind = Kind::unknown;
  std::string sandbox;
  std::uint16_t port = 0;  ///< of the guest; 0: its primary one
  bool operator==(const HostName&) const = default;
};

/// Where the proxy is reached.
struct Site {
  std::string domain = "localhost";
  std::uint16_t port = 0;

  /// `host` in lower case, as `http::Request` has it. Only what `url` would write is known.
  HostName parse(std::string_view host) const;
  /// "http://3000.box.localhost:8080/"; without a port of the guest: its primary one; without a sandbox: the index.
  std::string url(std::string_view sandbox = {}, std::uint16_t guest_port = 0) const;
  /// Whether a page of `origin` may open a websocket to `sandbox`: pages of the same sandbox may, on any of its ports.
  bool same_sandbox(std::string_view origin, std::string_view sandbox) const;
};

}  // namespace agentvm::proxy
