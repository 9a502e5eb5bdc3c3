#include "proxy/egress/policy.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::egress {
namespace {

constexpr std::size_t name_limit_bytes = 253, label_limit_bytes = 63;

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > name_limit_bytes) return false;
  std::size_t label = 0;
  for (const char c : text) {
    if (c == '.') {
      if (label == 0) return false;
      label = 0;
    } else {
      const bool fine = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
      if (!fine || ++label > label_limit_bytes) return false;
    }
  }
  return label > 0;
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value == 0 || value > 65535)
    return std::nullopt;
  return static_cast<std::uint16_t>(value);
}

}  // namespace

std::string HostPort::str() const {
  return host.find(':') != std::string::npos ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

std::optional<std::string> normal_host(std::string_view text) {
  std::string host(text);
  std::transform(host.begin(), host.end(), host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (looks_numeric(host)) {
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    const auto address = IpAddress::parse(host);
    if (!address) return std::nullopt;
    return address->str();
  }
  if (host.ends_with('.')) host.pop_back();
  if (!is_name(host)) return std::nullopt;
  return host;
}

AllowEntry AllowEntry::parse(std::string_view text, std::string origin, bool grant) {
  const auto fail = [&](std::string_view why) {
    return Error(ErrorCode::usage, fmt::format("'{}' ({}) is no host or host:port: {}", text, origin, why));
  };
  std::string_view host = text;
  std::optional<std::uint16_t> port;
  const auto colon = text.rfind(':');
  // An IPv6 address without brackets has colons of its own, and never a port.
  const bool bare_v6 = !text.starts_with('[') && std::count(text.begin(), text.end(), ':') > 1;
  if (!bare_v6 && colon != std::string_view::npos && (!text.starts_with('[') || text[colon - 1] == ']')) {
    host = text.substr(0, colon);
    port = parse_port(text.substr(colon + 1));
    if (!port) throw fail("the port is not a number from 1 to 65535");
  }
  if (host.find('*') != std::string_view::npos) throw fail("names are exact, there are no wildcards");
  const auto normal = normal_host(host);
  if (!normal) throw fail("the name is not a DNS name or an address");
  return {*normal, port, grant || looks_numeric(*normal), std::move(origin)};
}

Verdict EgressPolicy::decide(std::string_view host, std::uint16_t port) const {
  const auto normal = normal_host(host);
  if (!normal)
    return {.reason =
                fmt::format("'{}' is not a DNS name, or an address in an unusual notation", clean_guest_text(host))};
  bool other_port = false;
  for (const auto& entry : entries_) {
    if (entry.host != *normal) continue;
    if (entry.port ? *entry.port == port : port == 80 || port == 443) {
      const std::string rule = entry.port ? HostPort{entry.host, *entry.port}.str() : entry.host;
      return {true, entry.grant, fmt::format("{} ({})", rule, entry.origin), {}};
    }
    other_port = true;
  }
  const HostPort wanted{*normal, port};
  if (other_port) return {.reason = fmt::format("{} is not allowed: the host is, on another port", wanted.str())};
  return {.reason = fmt::format("{} is not allowed", wanted.str())};
}

std::vector<IpAddress> EgressPolicy::reachable(const std::vector<IpAddress>& addresses, bool grant,
                                               const std::vector<IpAddress>& own) {
  std::vector<IpAddress> result;
  for (const auto& address : addresses) {
    const bool ours =
        std::any_of(own.begin(), own.end(), [&](const IpAddress& one) { return unwrapped(one) == unwrapped(address); });
    if (grant || (!ours && !is_special(address))) result.push_back(address);
  }
  return result;
}

}  // namespace agentvm::egress
