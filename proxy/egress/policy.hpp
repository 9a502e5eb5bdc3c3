#pragma once
// What a sandbox may reach: rules by name and port, decided before anything is resolved. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/egress/address.hpp"

namespace agentvm::egress {

inline constexpr std::uint16_t https_port = 443;

struct HostPort {
  std::string host;  ///< lower case, no trailing dot; an IPv6 address without brackets
  std::uint16_t port = 0;
  auto operator<=>(const HostPort&) const = default;
  /// "host:port", IPv6 in brackets.
  std::string str() const;
};

/// `text` in lower case without its trailing dot; nothing when it is no DNS name and no address in canonical notation.
std::optional<std::string> normal_host(std::string_view text);

/// Names and ports that belong together: one line of a list.
struct HostRule {
  std::string host;                   ///< as `normal_host` returns it; with `subdomains`, what stands behind "*."
  std::optional<std::uint16_t> port;  ///< unset: 80 and 443 where it allows, every port where it denies
  bool grant = false;                 ///< may resolve to private, loopback and other special addresses
  std::string origin;                 ///< where it comes from, for the log: "egress.allow", "package sources"
  bool subdomains = false;            ///< every name below `host`, at any depth, but not `host` itself

  /// "host", "host:port", "*.example.org", "1.2.3.4:8080", "[2001:db8::1]:443". Throws `usage`. A wildcard stands alone
  /// in front of at least two labels: one over a whole top-level domain is a mistake more often than a wish.
  static HostRule parse(std::string_view text, std::string origin, bool grant = false);
  /// As `parse` reads it, without the origin.
  std::string str() const;
  bool matches(std::string_view host) const;
  bool operator==(const HostRule&) const = default;
};

/// What decided.
enum class Cause {
  allowed,
  not_listed,       ///< no rule names it
  other_port,       ///< a rule names the host, on another port
  denied_by_rule,   ///< a denying rule names it
  bad_name,         ///< no DNS name, or an address in a notation of its own
  special_address,  ///< it resolves to an address that only a grant reaches
  other_name,       ///< the connection asked inside for another name than the one that was judged
  placeholder,      ///< a secret's placeholder was sent where its value must not go
  decoy,            ///< a credential was sent that nobody should use
  cap,              ///< it has taken as much of the host as it may for now
  frozen,           ///< since then, until the user lets the sandbox go on
};
/// Kebab-case.
std::string_view to_string(Cause cause);

struct Verdict {
  bool allowed = false;
  bool grant = false;
  std::string rule;    ///< the rule that decided, "host:port (origin)"; empty when none did
  std::string reason;  ///< why not, for people
  Cause cause = Cause::not_listed;
  bool ask = false;  ///< with `allowed` false: its user is to be asked first
};

/// What becomes of a name that no rule is about.
enum class Unlisted { refused, asked };

class EgressPolicy {
 public:
  EgressPolicy() = default;  ///< denies everything
  explicit EgressPolicy(std::vector<HostRule> allow, std::vector<HostRule> deny = {},
                        Unlisted unlisted = Unlisted::refused)
      : allow_(std::move(allow)), deny_(std::move(deny)), unlisted_(unlisted) {}

  /// By name, before anything is resolved. `host` is as the guest wrote it. A denying rule wins over every other; of
  /// those that allow, a grant does. Asked for are names alone, and none that a rule denies.
  Verdict decide(std::string_view host, std::uint16_t port) const;
  /// By address, after resolving: those of `addresses` that may be connected to. `own` are this host's own addresses.
  static std::vector<IpAddress> reachable(const std::vector<IpAddress>& addresses, bool grant,
                                          const std::vector<IpAddress>& own);
  const std::vector<HostRule>& allow() const { return allow_; }
  const std::vector<HostRule>& deny() const { return deny_; }

 private:
  std::vector<HostRule> allow_, deny_;
  Unlisted unlisted_ = Unlisted::refused;
};

}  // namespace agentvm::egress
