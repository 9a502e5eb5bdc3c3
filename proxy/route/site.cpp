#include "proxy/route/site.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/base/names.hpp"

namespace agentvm::proxy {
namespace {

/// That of a name without one.
std::uint16_t default_port(Scheme scheme) {
  return scheme == Scheme::https ? 443 : 80;
}

bool is_sandbox_name(std::string_view text) {
  try {
    SandboxName::parse(text);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// 0 unless `text` is a port as we would write it.
std::uint16_t canonical_port(std::string_view text) {
  std::uint16_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool good = error == std::errc() && end == text.data() + text.size() && text.front() != '0';
  return good ? value : std::uint16_t{0};
}

}  // namespace

bool is_worktree_label(std::string_view text) {
  constexpr std::size_t limit_bytes = 63;  // of a DNS label
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return !text.empty() && text.size() <= limit_bytes && std::all_of(text.begin(), text.end(), plain) &&
         text.front() != '-' && text.back() != '-' && text.find_first_not_of("0123456789") != text.npos;
}

HostName Site::parse(std::string_view host) const {
  const HostName unknown;
  const auto colon = host.find(':');
  const auto name = host.substr(0, colon);
  const auto port_given = colon == host.npos ? default_port(scheme) : canonical_port(host.substr(colon + 1));
  if (port_given != port) return unknown;
  if (name == domain) return {HostName::Kind::index, {}, 0};
  if (name.size() <= domain.size() + 1 || !name.ends_with(domain) || name[name.size() - domain.size() - 1] != '.')
    return unknown;
  auto labels = name.substr(0, name.size() - domain.size() - 1);
  HostName result{HostName::Kind::sandbox, {}, 0};
  const auto sandbox_at = labels.rfind('.') + 1;  // 0 where there is one label
  result.sandbox = labels.substr(sandbox_at);
  if (!is_sandbox_name(result.sandbox)) return unknown;
  if (sandbox_at == 0) return result;
  labels = labels.substr(0, sandbox_at - 1);
  const auto dot = labels.find('.');
  const auto first = labels.substr(0, dot);
  if (dot != labels.npos || !is_worktree_label(first)) {
    result.port = canonical_port(first);
    if (result.port == 0) return unknown;
    if (dot == labels.npos) return result;
    labels.remove_prefix(dot + 1);
  }
  if (!is_worktree_label(labels)) return unknown;
  result.worktree = labels;
  return result;
}

std::string Site::url(std::string_view sandbox, std::uint16_t guest_port, std::string_view worktree) const {
  std::string result(prefix());
  if (guest_port != 0) result += fmt::format("{}.", guest_port);
  if (!worktree.empty()) result += fmt::format("{}.", worktree);
  if (!sandbox.empty()) result += fmt::format("{}.", sandbox);
  result += domain;
  if (port != default_port(scheme)) result += fmt::format(":{}", port);
  return result + "/";
}

HostName Site::parse_same_port(std::string_view host, std::uint16_t number) const {
  auto name = Site{domain, number, scheme}.parse(host);
  if (name.kind != HostName::Kind::sandbox || name.port != 0 || !name.worktree.empty()) return {};
  name.port = number;
  return name;
}

std::string Site::same_port_url(std::string_view sandbox, std::uint16_t number) const {
  return Site{domain, number, scheme}.url(sandbox);
}

bool Site::same_sandbox(std::string_view origin, std::string_view sandbox) const {
  if (!origin.starts_with(prefix())) return false;
  const auto from = parse(origin.substr(prefix().size()));
  return from.kind == HostName::Kind::sandbox && from.sandbox == sandbox;
}

}  // namespace agentvm::proxy
