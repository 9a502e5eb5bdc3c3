#pragma once
// IP addresses as values, and which of them a guest must not reach by name. Pure.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace agentvm::egress {

struct IpAddress {
  bool v6 = false;
  std::array<std::uint8_t, 16> bytes{};  ///< network order; the first four with v4

  /// Canonical notations only: "10.0.0.1", "::1" (no brackets, no zone). Nothing for anything else.
  static std::optional<IpAddress> parse(std::string_view text);
  std::string str() const;
  bool operator==(const IpAddress&) const = default;
};

/// The address that packets really go to: v4-mapped, NAT64 and 6to4 addresses become the v4 address inside them.
IpAddress unwrapped(const IpAddress& address);
/// Everything that is not a public unicast address: loopback, private, shared, link-local, multicast, reserved,
/// documentation, in every wrapping.
bool is_special(const IpAddress& address);
/// Whether `host` is a number to inet_aton or a resolver, in any notation ("127.1", "0x7f000001", "2130706433",
/// "[::1]", "1.2.3.4.").
bool looks_numeric(std::string_view host);

}  // namespace agentvm::egress
