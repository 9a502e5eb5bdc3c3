#include "proxy/egress/head.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "vmm/base/text.hpp"

namespace agentvm::egress {
namespace {

struct Refused {
  HeadFault fault;
};
[[noreturn]] void refuse(std::string reason, int status = 400) {
  throw Refused{{status, std::move(reason)}};
}

bool is_token_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}
bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return result;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

HostPort parse_authority(std::string_view text, std::optional<std::uint16_t> default_port, std::string_view what) {
  if (text.find('@') != std::string_view::npos) refuse(fmt::format("{} holds a user name", what));
  std::string_view host = text, port;
  bool with_port = false;
  const auto after = text.starts_with('[') ? text.find(']') : 0;
  if (after == std::string_view::npos) refuse(fmt::format("{} is malformed", what));
  if (const auto colon = text.find(':', after); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    with_port = true;
  }
  HostPort result{lower(host), default_port.value_or(0)};
  if (result.host.starts_with('[')) {
    const bool closed =
        result.host.ends_with(']') && IpAddress::parse(std::string_view(result.host).substr(1, result.host.size() - 2));
    if (!closed) refuse(fmt::format("{} holds a malformed address", what));
    result.host = result.host.substr(1, result.host.size() - 2);
  }
  if (result.host.ends_with('.')) result.host.pop_back();
  if (result.host.empty() || result.host.size() > 255) refuse(fmt::format("{} has no host", what));
  if (with_port) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), value);
    if (port.empty() || port.size() > 5 || error != std::errc() || end != port.data() + port.size() || value == 0 ||
        value > 65535)
      refuse(fmt::format("{} has a malformed port", what));
    result.port = static_cast<std::uint16_t>(value);
  }
  if (result.port == 0) refuse(fmt::format("{} has no port", what));
  return result;
}

/// `tunnel`: what the request stands in a tunnel to; nullptr for one to the proxy itself.
void parse_request_line(std::string_view line, const HostPort* tunnel, RequestHead& head, bool& old_version) {
  const auto first = line.find(' '), last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) refuse("the request line is malformed");
  const std::string_view method = line.substr(0, first), target = line.substr(first + 1, last - first - 1),
                         version = line.substr(last + 1);
  if (!is_token(method) || method.size() > 32) refuse("the method is malformed");
  if (version != "HTTP/1.1" && version != "HTTP/1.0") refuse("only HTTP/1.1 and HTTP/1.0 are spoken here", 505);
  old_version = version == "HTTP/1.0";
  // Visible ASCII only, and no fragment: what a server could read differently does not pass.
  if (target.empty() ||
      !std::all_of(target.begin(), target.end(), [](char c) { return c > 0x20 && c < 0x7f && c != '#'; }))
    refuse("the request target holds a character that does not belong there");
  head.method = method;
  if (tunnel) {
    if (method == "CONNECT" || method == "TRACE") refuse(fmt::format("{} is not passed on", method), 501);
    if (target.front() != '/') refuse("the request target is no path");
    head.target = *tunnel;
    head.path = target;
    return;
  }
  if (method == "CONNECT") {
    head.tunnel = true;
    head.target = parse_authority(target, std::nullopt, "the request target");
    return;
  }
  if (method == "TRACE") refuse("TRACE is not passed on", 501);
  if (lower(target.substr(0, 8)) == "https://") refuse("https goes through CONNECT", 501);
  if (lower(target.substr(0, 7)) != "http://")
    refuse("this is a proxy: the request target must be a whole http:// address");
  const std::string_view rest = target.substr(7);
  const auto slash = rest.find_first_of("/?");
  head.target = parse_authority(rest.substr(0, slash), 80, "the request target");
  head.path = slash == std::string_view::npos ? "/" : std::string(rest.substr(slash));
  if (head.path.front() == '?') head.path.insert(0, "/");
}

struct Field {
  std::string name;  // lower case
  std::string_view original_name, value;
};

Field parse_field(std::string_view line) {
  if (line.front() == ' ' || line.front() == '\t') refuse("a header line is folded");
  const auto colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) refuse("a header name is malformed");
  const std::string_view value = trimmed(line.substr(colon + 1));
  for (const unsigned char c : value)
    if ((c < 0x20 && c != '\t') || c == 0x7f) refuse("a header value holds a control character");
  return {lower(line.substr(0, colon)), line.substr(0, colon), value};
}

struct Framing {
  std::optional<std::string_view> host, length, coding;
  std::vector<std::string> hop_by_hop{
      "connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate",
      "te",         "trailer",    "upgrade",          "transfer-encoding",   "content-length",
      "host"};
};

void note_framing(const Field& field, Framing& framing) {
  const auto once = [&](std::optional<std::string_view>& slot) {
    if (slot) refuse(fmt::format("there is more than one {} header", field.name));
    slot = field.value;
  };
  if (field.name == "host") once(framing.host);
  if (field.name == "content-length") once(framing.length);
  if (field.name == "transfer-encoding") once(framing.coding);
  if (field.name != "connection") return;
  std::string_view rest = field.value;
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    framing.hop_by_hop.push_back(lower(trimmed(rest.substr(0, comma))));
    if (framing.hop_by_hop.size() > 64) refuse("the Connection header names too many others");
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
}

void apply_framing(const Framing& framing, const HostPort* tunnel, bool old_version, RequestHead& head) {
  if (!framing.host && (tunnel || !old_version)) refuse("the Host header is missing");
  if (framing.host) {
    HostPort named = parse_authority(*framing.host, head.tunnel ? head.target.port : 80, "the Host header");
    // Inside a tunnel the port is settled, and clients leave it out or not.
    if (tunnel && named.port == 80) named.port = tunnel->port;
    if (named != head.target)
      refuse("the Host header names another host than the " + std::string(tunnel ? "tunnel" : "request target"),
             tunnel ? 403 : 400);
  }
  if (framing.length && framing.coding) refuse("both Content-Length and Transfer-Encoding are given");
  if (head.tunnel && (framing.length || framing.coding)) refuse("CONNECT has no body");
  if (framing.coding) {
    if (old_version) refuse("HTTP/1.0 has no Transfer-Encoding");
    if (lower(*framing.coding) != "chunked") refuse("the only Transfer-Encoding understood is chunked", 501);
    head.body = RequestHead::Body::chunked;
  } else if (framing.length) {
    const std::string_view text = *framing.length;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), head.body_bytes);
    if (text.empty() || text.size() > 18 || text.front() < '0' || text.front() > '9' || error != std::errc() ||
        end != text.data() + text.size())
      refuse("the Content-Length is malformed");
    head.body = RequestHead::Body::sized;
  }
}

RequestHead parse_lines(std::string_view text, const HostPort* tunnel) {
  RequestHead head;
  bool old_version = false, first = true;
  Framing framing;
  std::vector<Field> fields;
  while (!text.empty()) {
    const auto end = text.find("\r\n");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 2);
    if (first) {
      parse_request_line(line, tunnel, head, old_version);
      first = false;
      continue;
    }
    if (fields.size() == header_limit) refuse(fmt::format("there are more than {} headers", header_limit), 431);
    fields.push_back(parse_field(line));
    note_framing(fields.back(), framing);
  }
  apply_framing(framing, tunnel, old_version, head);
  for (const auto& field : fields)
    if (std::find(framing.hop_by_hop.begin(), framing.hop_by_hop.end(), field.name) == framing.hop_by_hop.end())
      head.headers.emplace_back(field.original_name, field.value);
  return head;
}

HeadResult parse(std::string_view data, const HostPort* tunnel, std::size_t seen_bytes) {
  try {
    // What no request line begins with is not waited for to end.
    if (!data.empty() && data[0] != '\r' && data[0] != '\n' && !is_token_char(data[0]))
      refuse("the request is malformed: it is not HTTP");
    // Every line end is CRLF and nothing else is: a lone CR or LF is where two parsers disagree.
    for (std::size_t i = seen_bytes == 0 ? 0 : seen_bytes - 1; i < data.size() && i < head_limit_bytes; ++i) {
      if (data[i] == '\0') refuse("the head holds a NUL byte");
      if (data[i] == '\n' && (i == 0 || data[i - 1] != '\r')) refuse("a line ends without a carriage return");
      if (data[i] == '\r' && i + 1 < data.size() && data[i + 1] != '\n') refuse("a carriage return stands alone");
      if (data[i] == '\n' && i == 1) refuse("the request line is empty");
      if (data[i] == '\n' && i >= 3 && data[i - 2] == '\n') {
        const std::string_view lines = data.substr(0, i - 1);
        return {parse_lines(lines, tunnel), std::nullopt, i + 1};
      }
    }
    if (data.size() >= head_limit_bytes) refuse(fmt::format("the head is larger than {} bytes", head_limit_bytes), 431);
    return {};
  } catch (const Refused& refused) {
    return {std::nullopt, refused.fault, 0};
  }
}

}  // namespace

HeadResult parse_head(std::string_view data, std::size_t seen_bytes) {
  return parse(data, nullptr, seen_bytes);
}

HeadResult parse_tunnelled_head(std::string_view data, const HostPort& tunnel, std::size_t seen_bytes) {
  return parse(data, &tunnel, seen_bytes);
}

std::string RequestHead::authority() const {
  std::string authority = target.str();
  if (target.port == 80) authority.resize(authority.rfind(':'));
  return authority;
}

std::string RequestHead::text(const std::string& request_target, const std::string& authorization) const {
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", method, request_target, authority());
  for (const auto& [name, value] : headers) text += fmt::format("{}: {}\r\n", name, value);
  if (!authorization.empty()) text += fmt::format("Proxy-Authorization: {}\r\n", authorization);
  if (body == Body::sized) text += fmt::format("Content-Length: {}\r\n", body_bytes);
  if (body == Body::chunked) text += "Transfer-Encoding: chunked\r\n";
  return text + "Connection: close\r\n\r\n";
}

std::string RequestHead::serialise() const {
  return text(path, "");
}

std::string RequestHead::serialise_for_proxy(const std::string& authorization) const {
  return text(fmt::format("http://{}{}", authority(), path), authorization);
}

std::size_t ChunkDecoder::feed(std::string_view data, std::string& out) {
  std::size_t used = 0;
  while (used < data.size() && state_ != State::done && state_ != State::broken) {
    if (state_ == State::data) {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, data.size() - used));
      out.append(data.substr(used, size));
      used += size;
      left_ -= size;
      if (left_ == 0) state_ = State::data_cr;
    } else {
      step(data[used++]);
    }
  }
  return used;
}

void ChunkDecoder::step(char c) {
  constexpr std::size_t overhead_limit_bytes = 4096;
  constexpr unsigned digit_limit = 15;
  const auto expect = [&](char wanted, State next) { state_ = c == wanted ? next : State::broken; };
  switch (state_) {
    case State::size: {
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit >= 0 && digits_ < digit_limit) {
        left_ = left_ * 16 + static_cast<unsigned>(digit);
        ++digits_;
      } else if (digits_ > 0 && (c == ';' || c == '\r')) {
        overhead_ = 0;
        state_ = c == ';' ? State::extension : State::size_lf;
      } else {
        state_ = State::broken;
      }
      break;
    }
    case State::extension:
      if (c == '\r')
        state_ = State::size_lf;
      else if ((c < 0x20 && c != '\t') || c == 0x7f || ++overhead_ > overhead_limit_bytes)
        state_ = State::broken;
      break;
    case State::size_lf:
      digits_ = 0;
      trailer_line_ = overhead_ = 0;
      expect('\n', left_ == 0 ? State::trailer : State::data);
      break;
    case State::data_cr:
      expect('\r', State::data_lf);
      break;
    case State::data_lf:
      expect('\n', State::size);
      break;
    case State::trailer:  // dropped: it could set what the head may not
      if (c == '\r')
        state_ = State::trailer_lf;
      else if (c == '\n' || c == '\0' || ++overhead_ > overhead_limit_bytes)
        state_ = State::broken;
      else
        ++trailer_line_;
      break;
    case State::trailer_lf:
      expect('\n', trailer_line_ == 0 ? State::done : State::trailer);
      trailer_line_ = 0;
      break;
    case State::data:
    case State::done:
    case State::broken:
      break;
  }
}

}  // namespace agentvm::egress
