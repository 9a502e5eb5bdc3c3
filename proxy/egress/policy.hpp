#pragma once
// What a sandbox may reach: an exact list of names. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/egress/address.hpp"

namespace agentvm::egress {

struct HostPort {
  std::string host;  ///< lower case, no trailing dot; an IPv6 address without brackets
  std::uint16_t port = 0;
  auto operator<=>(const HostPort&) const = default;
  /// "host:port", IPv6 in brackets.
  std::string str() const;
};

/// `text` in lower case without its trailing dot; nothing when it is no DNS name and no address in canonical notation.
std::optional<std::string> normal_host(std::string_view text);

struct AllowEntry {
  std::string host;                   ///< as `normal_host` returns it
  std::optional<std::uint16_t> port;  ///< unset: 80 and 443
  bool grant = false;                 ///< may resolve to private, loopback and other special addresses
  std::string origin;                 ///< where the entry comes from, for the log: "egress.allow", "package sources"

  /// "host", "host:port", "1.2.3.4:8080", "[2001:db8::1]:443". An address that is listed is a grant for itself. Throws
  /// `usage`.
  static AllowEntry parse(std::string_view text, std::string origin, bool grant = false);
  bool operator==(const AllowEntry&) const = default;
};

struct Verdict {
  bool allowed = false;
  bool grant = false;
  std::string rule;    ///< the entry that decided, "host:port (origin)"; empty when none did
  std::string reason;  ///< why not, for people
};

class EgressPolicy {
 public:
  EgressPolicy() = default;  ///< denies everything
  explicit EgressPolicy(std::vector<AllowEntry> entries) : entries_(std::move(entries)) {}

  /// By name, before anything is resolved. `host` is as the guest wrote it.
  Verdict decide(std::string_view host, std::uint16_t port) const;
  /// By address, after resolving: those of `addresses` that may be connected to. `own` are this host's own addresses.
  static std::vector<IpAddress> reachable(const std::vector<IpAddress>& addresses, bool grant,
                                          const std::vector<IpAddress>& own);
  const std::vector<AllowEntry>& entries() const { return entries_; }

 private:
  std::vector<AllowEntry> entries_;
};

}  // namespace agentvm::egress
