#include "proxy/egress/opening.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "proxy/egress/client_hello.hpp"

namespace agentvm::egress {
namespace {

// A request line that is longer is refused where it is parsed; no method is longer.
constexpr std::size_t line_limit_bytes = 16 * 1024, method_limit_bytes = 64;
// ssh has no names on the wire: who answers is who was resolved. Forges offer it on 443 for networks like this one.
constexpr std::string_view ssh_banner = "SSH-2.0-";

OpeningVerdict judge_tls(std::string_view first, const HostPort& target) {
  const auto result = parse_client_hello(first);
  if (result.incomplete()) return {.opening = Opening::more, .needed = std::max(result.needed, first.size() + 1)};
  const auto conflict = result.fault ? result.fault : name_conflict(*result.hello, target);
  if (conflict) return {.opening = Opening::refuse, .reason = *conflict, .tls = true};
  return {.opening = Opening::pass};
}

enum class Line { incomplete, http, empty, other };

/// What the first line is. Other text protocols have lines too, binary ones show a byte that no line holds.
Line first_line(std::string_view first) {
  for (std::size_t i = 0; i < first.size(); ++i) {
    const char c = first[i];
    if (c == '\n') {
      const auto line = first.substr(0, i);
      if (line.empty() || line == "\r") return Line::empty;
      return line.find(" HTTP/") != std::string_view::npos ? Line::http : Line::other;
    }
    if (i == line_limit_bytes) return Line::http;
    if (i == method_limit_bytes && first.substr(0, i).find(' ') == std::string_view::npos) return Line::other;
    if ((c < 0x20 || c > 0x7e) && c != '\r' && c != '\t') return Line::other;
  }
  return Line::incomplete;
}

}  // namespace

OpeningVerdict judge_opening(std::string_view first, const HostPort& target) {
  if (first.empty()) return {.needed = 1};
  if (begins_tls(first)) return judge_tls(first, target);
  // An address was listed as such: it stands for everything that answers there.
  if (looks_numeric(target.host)) return {.opening = Opening::pass};
  if (first.starts_with(ssh_banner)) return {.opening = Opening::pass};
  const auto line = first_line(first);
  if (line == Line::incomplete) return {.needed = first.size() + 1};
  if (line == Line::http && !first.starts_with("PRI ")) return {.opening = Opening::request};
  if (line == Line::http)
    return {.opening = Opening::refuse, .reason = "HTTP/2 without TLS hides whom it asks for; it is not passed on"};
  // Some servers skip empty lines before a request.
  if (line == Line::empty) return {.opening = Opening::refuse, .reason = "the tunnel begins with an empty line"};
  if (target.port == 443 || target.port == 80)
    return {.opening = Opening::refuse,
            .reason =
                fmt::format("a tunnel to port {} carries {}", target.port, target.port == 443 ? "TLS" : "HTTP or TLS")};
  return {.opening = Opening::pass};
}

}  // namespace agentvm::egress
