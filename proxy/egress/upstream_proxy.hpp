#pragma once
// A proxy that the host itself stands behind, as in companies: how it is named, and what is said to it. Pure.

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/egress/policy.hpp"

namespace agentvm::egress {

struct UpstreamProxy {
  HostPort address;
  std::string authorization;         ///< value of Proxy-Authorization; empty: none. Never shown
  std::vector<std::string> directs;  ///< hosts that are reached without it, as in NO_PROXY

  /// "http://[USER:PASSWORD@]HOST[:PORT][/]"; the port is 80 unless it is named. Throws `usage`, never with the
  /// password in it.
  static UpstreamProxy parse(std::string_view url);
  /// "http://HOST:PORT".
  std::string str() const;
  /// False for what `directs` names: "*", a host, which stands for what is below it, too, or either with a port.
  bool serves(const HostPort& target) const;
};

/// `setting`: "direct", "environment" or a URL. The environment's is the first of https_proxy, HTTPS_PROXY, http_proxy
/// and HTTP_PROXY, with no_proxy or NO_PROXY. Nothing: connections are made directly. Throws as `parse`.
std::optional<UpstreamProxy> upstream_proxy(std::string_view setting,
                                            const std::function<std::string(const char*)>& variable);

/// What asks `proxy` for a tunnel (RFC 9110, 9.3.6).
std::string tunnel_request(const UpstreamProxy& proxy, const HostPort& target);

/// Its answer. The head is at most 16 KiB.
struct TunnelAnswer {
  bool incomplete = false;
  bool open = false;
  std::size_t size = 0;  ///< bytes of the head, with `open`; what follows comes through the tunnel
  std::string problem;   ///< without `open`: one line, safe to show
};
TunnelAnswer parse_tunnel_answer(std::string_view data);

}  // namespace agentvm::egress
