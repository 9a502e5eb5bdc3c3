#include "proxy/egress/upstream_proxy.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "vmm/base/base64.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::egress {
namespace {

constexpr std::size_t answer_limit_bytes = 16 * 1024;
constexpr std::string_view scheme = "http://";

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::usage, "the upstream proxy: " + what, "agentvm config show");
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// %40 for @ and so on: passwords in URLs are written so.
std::string percent_decoded(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    if (low >= 0) i += 2;
    result += low >= 0 ? static_cast<char>(high * 16 + low) : text[i];
  }
  return result;
}

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t"), end = text.find_last_not_of(" \t");
  return begin == text.npos ? std::string_view() : text.substr(begin, end - begin + 1);
}

std::vector<std::string> names_of(std::string_view list) {
  std::vector<std::string> names;
  while (!list.empty()) {
    const auto end = std::min(list.find(','), list.size());
    std::string name(trimmed(list.substr(0, end)));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    if (!name.empty()) names.push_back(std::move(name));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return names;
}

bool names_host(std::string_view entry, const HostPort& target) {
  if (entry == "*") return true;
  // Only a name may end in a port of its own: an IPv6 address holds colons.
  if (const auto colon = entry.rfind(':'); colon != entry.npos && entry.find(':') == colon) {
    if (entry.substr(colon + 1) != fmt::format("{}", target.port)) return false;
    entry = entry.substr(0, colon);
  }
  if (entry.starts_with("*.")) entry.remove_prefix(1);
  const bool only_below = entry.starts_with('.');
  if (only_below) entry.remove_prefix(1);
  if (entry.empty()) return false;
  if (target.host == entry) return true;
  return target.host.size() > entry.size() + 1 && target.host.ends_with(entry) &&
         target.host[target.host.size() - entry.size() - 1] == '.';
}

}  // namespace

UpstreamProxy UpstreamProxy::parse(std::string_view url) {
  constexpr std::uint16_t default_port = 80;
  if (!url.starts_with(scheme)) refuse("only http://HOST:PORT is supported");
  auto rest = url.substr(scheme.size());
  UpstreamProxy proxy;
  if (const auto at = rest.rfind('@'); at != rest.npos) {
    const auto credentials = percent_decoded(rest.substr(0, at));
    if (credentials.find_first_of(std::string_view("\r\n\0", 3)) != credentials.npos)
      refuse("its user or password holds a character that cannot be sent");
    proxy.authorization = "Basic " + base64_encode(credentials);
    rest.remove_prefix(at + 1);
  }
  if (rest.ends_with('/')) rest.remove_suffix(1);
  try {
    const auto rule = HostRule::parse(rest, "");
    if (rule.subdomains) throw Error(ErrorCode::usage, "");
    proxy.address = {rule.host, rule.port.value_or(default_port)};
  } catch (const Error&) {
    refuse(fmt::format("'{}' is no host with a port", clean_guest_text(rest, Newlines::escape, 80)));
  }
  return proxy;
}

std::string UpstreamProxy::str() const {
  return std::string(scheme) + address.str();
}

bool UpstreamProxy::serves(const HostPort& target) const {
  return std::none_of(directs.begin(), directs.end(),
                      [&](const std::string& entry) { return names_host(entry, target); });
}

std::optional<UpstreamProxy> upstream_proxy(std::string_view setting,
                                            const std::function<std::string(const char*)>& variable) {
  if (setting.empty() || setting == "direct") return std::nullopt;
  const auto first = [&](std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (auto value = variable(name); !value.empty()) return value;
    return std::string();
  };
  std::string url(setting);
  if (setting == "environment") url = first({"https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"});
  if (url.empty()) return std::nullopt;
  auto proxy = UpstreamProxy::parse(url.find("://") == url.npos ? std::string(scheme) + url : url);
  if (setting == "environment") proxy.directs = names_of(first({"no_proxy", "NO_PROXY"}));
  return proxy;
}

std::string tunnel_request(const UpstreamProxy& proxy, const HostPort& target) {
  auto text = fmt::format("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n", target.str());
  if (!proxy.authorization.empty()) text += fmt::format("Proxy-Authorization: {}\r\n", proxy.authorization);
  return text + "\r\n";
}

TunnelAnswer parse_tunnel_answer(std::string_view data) {
  TunnelAnswer answer;
  const auto end = data.find("\r\n\r\n");
  if (end == data.npos && data.size() < answer_limit_bytes) {
    answer.incomplete = true;
    return answer;
  }
  const auto line = data.substr(0, data.find("\r\n"));
  const bool http = line.starts_with("HTTP/1.0 ") || line.starts_with("HTTP/1.1 ");
  if (end == data.npos || end > answer_limit_bytes || !http || line.size() < 12) {
    answer.problem = "its answer is not HTTP";
    return answer;
  }
  const auto status = line.substr(9, 3);
  answer.open = status[0] == '2' && (line.size() == 12 || line[12] == ' ');
  if (answer.open)
    answer.size = end + 4;
  else
    answer.problem = "it answers " + clean_guest_text(line.substr(9), Newlines::escape, 100);
  return answer;
}

}  // namespace agentvm::egress
