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

/// Rules are about names; and the command that allows one would take a word that begins with '-' for an option.
bool may_be_asked(const std::string& host) {
  return !looks_numeric(host) && !host.starts_with('-');
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

HostRule HostRule::parse(std::string_view text, std::string origin, bool grant) {
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
  const bool subdomains = host.starts_with("*.");
  if (subdomains) host.remove_prefix(2);
  if (host.find('*') != std::string_view::npos) throw fail("a wildcard is '*.' in front of a name");
  const auto normal = normal_host(host);
  if (!normal) throw fail("the name is not a DNS name or an address");
  if (subdomains && (looks_numeric(*normal) || normal->find('.') == std::string::npos))
    throw fail("a wildcard needs a name of at least two parts behind it");
  if (subdomains && grant) throw fail("a grant names one host");
  return {*normal, port, grant, std::move(origin), subdomains};
}

std::string HostRule::str() const {
  const std::string name = (subdomains ? "*." : "") + host;
  if (port) return HostPort{name, *port}.str();
  return name.find(':') == std::string::npos ? name : "[" + name + "]";
}

bool HostRule::matches(std::string_view name) const {
  if (!subdomains) return name == host;
  return name.size() > host.size() + 1 && name.ends_with(host) && name[name.size() - host.size() - 1] == '.' &&
         !looks_numeric(name);
}

std::string_view to_string(Cause cause) {
  switch (cause) {
    case Cause::allowed:
      return "allowed";
    case Cause::not_listed:
      return "not-listed";
    case Cause::other_port:
      return "other-port";
    case Cause::denied_by_rule:
      return "denied-by-rule";
    case Cause::bad_name:
      return "bad-name";
    case Cause::special_address:
      return "special-address";
    case Cause::other_name:
      return "other-name";
    case Cause::placeholder:
      return "placeholder";
    case Cause::decoy:
      return "decoy";
    case Cause::cap:
      return "cap";
    case Cause::frozen:
      return "frozen";
  }
  return "not-listed";
}

Verdict EgressPolicy::decide(std::string_view host, std::uint16_t port) const {
  const auto normal = normal_host(host);
  if (!normal)
    return {
        .reason = fmt::format("'{}' is not a DNS name, or an address in an unusual notation", clean_guest_text(host)),
        .cause = Cause::bad_name};
  const std::string wanted = HostPort{*normal, port}.str();
  const auto shown = [](const HostRule& rule) { return fmt::format("{} ({})", rule.str(), rule.origin); };
  for (const auto& rule : deny_)
    if (rule.matches(*normal) && (!rule.port || *rule.port == port))
      return {.rule = shown(rule),
              .reason = fmt::format("{} is denied by {}", wanted, shown(rule)),
              .cause = Cause::denied_by_rule};
  const HostRule* found = nullptr;
  bool other_port = false;
  for (const auto& rule : allow_) {
    if (!rule.matches(*normal)) continue;
    if (rule.port ? *rule.port != port : port != 80 && port != 443)
      other_port = true;
    else if (!found || (rule.grant && !found->grant))
      found = &rule;
  }
  if (found) return {true, found->grant, shown(*found), {}, Cause::allowed};
  const bool ask = unlisted_ == Unlisted::asked && may_be_asked(*normal);
  if (other_port)
    return {.reason = fmt::format("{} is not allowed: the host is, on another port", wanted),
            .cause = Cause::other_port,
            .ask = ask};
  return {.reason = fmt::format("{} is not allowed", wanted), .cause = Cause::not_listed, .ask = ask};
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
