#include "proxy/http/fields.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace agentvm::http {
namespace {

// Never passed on: they are about one connection, or are written anew; or our own Connection line would name them, and
// whoever reads it would take them for such.
constexpr std::string_view hop_by_hop[] = {"connection",
                                           "keep-alive",
                                           "proxy-connection",
                                           "proxy-authenticate",
                                           "proxy-authorization",
                                           "te",
                                           "upgrade",
                                           "transfer-encoding",
                                           "content-length",
                                           "host",
                                           "http2-settings",
                                           "expect",
                                           "close"};

constexpr std::size_t option_limit = 64;

void add_options(std::string_view list, std::vector<std::string>& options) {
  for (bool more = true; more;) {
    const auto comma = list.find(',');
    const auto option = trimmed(list.substr(0, comma));
    more = comma != std::string_view::npos;
    if (more) list.remove_prefix(comma + 1);
    if (option.empty()) continue;
    // "websocket", "HTTP/2.0": a slash may stand in Upgrade.
    const auto slash = option.find('/');
    if (!is_token(option.substr(0, slash)) || (slash != option.npos && !is_token(option.substr(slash + 1))))
      refuse("a Connection or Upgrade header is malformed");
    options.push_back(lower(option));
    if (options.size() > option_limit) refuse("a Connection or Upgrade header names too much");
  }
}

/// CGI-like servers read `_` as `-`: a field that differs from a framing one by that alone is meant to deceive.
bool looks_like_framing(std::string_view name) {
  if (name.find('_') == name.npos) return false;
  std::string plain = lower(name);
  std::replace(plain.begin(), plain.end(), '_', '-');
  return plain == "content-length" || plain == "transfer-encoding";
}

}  // namespace

void refuse(std::string reason, int status) {
  throw Refused{{status, std::move(reason)}};
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return result;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_token(std::string_view text) {
  constexpr std::string_view marks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || marks.find(c) != marks.npos;
  });
}

bool same_name(std::string_view a, std::string_view b) {
  const auto low = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return low(x) == low(y); });
}

const std::string* find_field(const Fields& fields, std::string_view name) {
  for (const auto& field : fields)
    if (same_name(field.name, name)) return &field.value;
  return nullptr;
}

std::size_t head_size(std::string_view data, std::size_t seen_bytes) {
  const auto limit = std::min(data.size(), head_limit_bytes);
  // A CR at the end of what was seen was accepted without its LF.
  for (std::size_t i = seen_bytes > 0 ? seen_bytes - 1 : 0; i < limit; ++i) {
    const char c = data[i];
    if (c == '\0') refuse("the head holds a NUL");
    if (c == '\r' && i + 1 < data.size() && data[i + 1] != '\n') refuse("the head holds a CR without LF");
    if (c != '\n') continue;
    if (i == 0 || data[i - 1] != '\r') refuse("the head holds a LF without CR");
    if (i == 1) refuse("the head begins with an empty line");
    if (i >= 3 && data[i - 2] == '\n') return i + 1;
  }
  if (data.size() >= head_limit_bytes) refuse(fmt::format("the head is larger than {} bytes", head_limit_bytes), 431);
  return 0;
}

std::string_view cut_line(std::string_view& text) {
  const auto end = text.find("\r\n");
  const auto line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 2);
  return line;
}

FieldLine parse_field_line(std::string_view line) {
  if (line.empty() || line.front() == ' ' || line.front() == '\t') refuse("a header line is folded");
  const auto colon = line.find(':');
  if (colon == line.npos || !is_token(line.substr(0, colon))) refuse("a header name is malformed");
  const auto value = trimmed(line.substr(colon + 1));
  for (const unsigned char c : value)
    if ((c < 0x20 && c != '\t') || c == 0x7f) refuse("a header value holds a control character");
  return {line.substr(0, colon), value};
}

bool FieldBlock::has_connection(std::string_view option) const {
  return std::find(connection.begin(), connection.end(), option) != connection.end();
}

FieldBlock parse_field_block(std::string_view text) {
  FieldBlock block;
  std::size_t count = 0;
  while (!text.empty()) {
    const auto [name, value] = parse_field_line(cut_line(text));
    if (++count > field_limit) refuse(fmt::format("there are more than {} headers", field_limit), 431);
    const auto once = [&, name = name, value = value](std::string_view wanted, std::optional<std::string_view>& slot) {
      if (!same_name(name, wanted)) return;
      if (slot) refuse(fmt::format("there is more than one {} header", wanted));
      slot = value;
    };
    once("Host", block.host);
    once("Content-Length", block.length);
    once("Transfer-Encoding", block.coding);
    once("Expect", block.expect);
    once("Origin", block.origin);
    if (same_name(name, "Connection")) add_options(value, block.connection);
    if (same_name(name, "Upgrade")) add_options(value, block.upgrade);
    if (looks_like_framing(name)) refuse("a header imitates a framing one");
    if (std::none_of(std::begin(hop_by_hop), std::end(hop_by_hop),
                     [name = name](std::string_view hop) { return same_name(name, hop); }))
      block.fields.push_back({std::string(name), std::string(value)});
  }
  for (const auto& option : block.connection)
    if (option == "host" || option == "content-length" || option == "transfer-encoding" || option == "connection")
      refuse("the Connection header names a header that it cannot take away");
  if (!block.connection.empty())
    std::erase_if(block.fields, [&](const Field& field) { return block.has_connection(lower(field.name)); });
  return block;
}

std::uint64_t parse_length(std::string_view text) {
  constexpr std::size_t digit_limit = 18;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || text.size() > digit_limit || text.front() < '0' || text.front() > '9' || error != std::errc() ||
      end != text.data() + text.size())
    refuse("the Content-Length is malformed");
  return value;
}

}  // namespace agentvm::http
