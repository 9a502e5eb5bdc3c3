#include "vmm/config/values.hpp"

#include <algorithm>
#include <charconv>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm/base/names.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {

std::string quote_foreign(std::string_view text) {
  constexpr std::size_t limit_bytes = 80;
  return "'" + clean_guest_text(text, Newlines::escape, limit_bytes) + "'";
}

namespace {

[[noreturn]] void refuse(std::string_view text, const std::string& expected) {
  throw Error(ErrorCode::usage, fmt::format("{} is not {}", quote_foreign(text), expected));
}

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const auto end = std::min(text.find_first_of(separators), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

bool is_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

std::uint64_t parse_number(std::string_view text, const std::string& expected) {
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || problem != std::errc() || end != text.data() + text.size()) refuse(text, expected);
  return value;
}

Json parse_size(const ConfigKey& key, std::string_view text) {
  const auto bounds = split(key.choices, "|");
  const auto expected = fmt::format("a size between {} and {}, such as {}", bounds[0], bounds[1], key.default_value);
  ByteSize size;
  try {
    size = ByteSize::parse(text);
  } catch (const Error&) {
    refuse(text, expected);
  }
  if (size < ByteSize::parse(bounds[0]) || size > ByteSize::parse(bounds[1])) refuse(text, expected);
  return size.bytes();
}

Json parse_count(const ConfigKey& key, std::string_view text) {
  const auto bounds = split(key.choices, "|");
  const auto expected = fmt::format("a whole number from {} to {}", bounds[0], bounds[1]);
  const auto value = parse_number(text, expected);
  if (value < parse_number(bounds[0], expected) || value > parse_number(bounds[1], expected)) refuse(text, expected);
  return value;
}

Json parse_boolean(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  refuse(text, "true or false");
}

Json parse_choice(const ConfigKey& key, std::string_view text) {
  const auto choices = split(key.choices, "|");
  if (std::find(choices.begin(), choices.end(), text) == choices.end())
    refuse(text, choices.size() == 1 ? fmt::format("supported: only {} is", choices[0])
                                     : fmt::format("one of {}", fmt::join(choices, ", ")));
  return text;
}

/// The rules of git check-ref-format(1) for a branch, without asking git.
Json parse_branch(std::string_view text) {
  constexpr std::size_t limit_bytes = 200;
  bool good = !text.empty() && text.size() <= limit_bytes && text.front() != '-' && text.front() != '/' &&
              text.back() != '/' && text.back() != '.' && text != "@" && text != "HEAD" &&
              text.find("..") == text.npos && text.find("//") == text.npos && text.find("@{") == text.npos;
  for (const char c : text)
    good = good && static_cast<unsigned char>(c) > 0x20 && c != 0x7F && !std::strchr("~^:?*[\\", c);
  for (const auto part : split(text, "/")) good = good && part.front() != '.' && !part.ends_with(".lock");
  if (!good || quote_foreign(text).size() != text.size() + 2)
    refuse(text, "a branch name (see 'git help check-ref-format')");
  return text;
}

Json parse_image(std::string_view text) {
  constexpr std::size_t name_limit = 64, path_limit = 4096;
  if (image_is_recipe(text)) {
    if (text.size() > path_limit || text.find('\0') != text.npos) refuse(text, "the path of a recipe");
    return text;
  }
  bool good = !text.empty() && text.size() <= name_limit && is_alnum(text.front());
  for (const char c : text) good = good && (is_alnum(c) || c == '-' || c == '_' || c == '.');
  if (!good) refuse(text, "an image name (letters, digits, '-', '_', '.') nor the path of a recipe");
  return text;
}

bool is_dns_name(std::string_view text) {
  constexpr std::size_t name_limit = 253, label_limit = 63;
  if (text.empty() || text.size() > name_limit || text.front() == '.' || text.back() == '.' ||
      text.find("..") != text.npos)
    return false;
  for (const auto label : split(text, ".")) {
    if (label.size() > label_limit || label.front() == '-' || label.back() == '-') return false;
    for (const char c : label)
      if (!is_alnum(c) && c != '-' && c != '_') return false;
  }
  return true;
}

/// host, host:port, 192.0.2.1, [2001:db8::1]:443; lower case comes out.
std::string parse_host(std::string_view text) {
  const std::string expected = "a host name or *.domain, with :port or without";
  std::string_view host = text, port;
  bool has_port = false;
  const auto colon = text.rfind(':');
  const auto bracket = text.rfind(']');
  if (colon != text.npos && (bracket == text.npos || colon > bracket)) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    has_port = true;
  }
  std::string folded(host);
  std::transform(folded.begin(), folded.end(), folded.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (folded.starts_with('[')) {
    unsigned char address[16];
    if (!folded.ends_with(']') || ::inet_pton(AF_INET6, folded.substr(1, folded.size() - 2).c_str(), address) != 1)
      refuse(text, expected);
  } else if (const bool wildcard = folded.starts_with("*."); !is_dns_name(folded.substr(wildcard ? 2 : 0))) {
    refuse(text, expected);
  } else if (wildcard && folded.find('.', 2) == folded.npos) {
    refuse(text, "a host name: a wildcard needs a name of at least two parts behind it, as in *.example.org");
  }
  if (!has_port) return folded;
  const auto number =
      port.find_first_not_of("0123456789") == port.npos && port.size() <= 5 ? parse_number(port, expected) : 0;
  if (number < 1 || number > 65535) refuse(text, "a host name with a port from 1 to 65535");
  return fmt::format("{}:{}", folded, number);
}

std::string parse_glob(std::string_view text) {
  constexpr std::size_t limit_bytes = 4096;
  if (text.empty() || text.size() > limit_bytes || text.find('\0') != text.npos || text == "/" || text.front() == '!')
    refuse(text, "a path pattern, such as docs/ or *.md");
  return std::string(text);
}

std::string parse_variable(std::string_view text) {
  if (!is_variable_name(text.ends_with('*') ? text.substr(0, text.size() - 1) : text))
    refuse(text, "the name of a variable, such as API_KEY or API_*");
  return std::string(text);
}

std::string parse_assignment(std::string_view text) {
  constexpr std::size_t limit = 64u << 10;
  const auto equals = std::min(text.find('='), text.size());
  if (equals == text.size() || !is_variable_name(text.substr(0, equals)) || text.size() > limit ||
      text.find('\0') != text.npos)
    refuse(text.substr(0, equals), "NAME=VALUE");  // the value may be nobody's business
  return std::string(text);
}

std::string parse_grant(std::string_view text) {
  const std::string expected = "one host with its port, such as registry.internal:5000";
  if (text.starts_with("*")) refuse(text, expected);
  auto host = parse_host(text);
  if (host.ends_with(']') || host.find(':') == host.npos) refuse(text, expected);
  return host;
}

/// "HOST NUMBER UNIT/SPAN", single spaces come out.
std::string parse_cap(std::string_view text) {
  const std::string expected =
      "HOST NUMBER UNIT/SPAN, as in api.example.org 100 requests/hour, 2G bytes/day, 500k tokens/day";
  const auto words = split(text, " ");
  if (words.size() != 3) refuse(text, expected);
  const auto host = parse_host(words[0]);
  const auto slash = words[2].find('/');
  if (slash == words[2].npos) refuse(text, expected);
  const auto unit = words[2].substr(0, slash), span = words[2].substr(slash + 1);
  if ((unit != "requests" && unit != "bytes" && unit != "tokens") ||
      (span != "minute" && span != "hour" && span != "day"))
    refuse(text, expected);
  auto digits = words[1];
  std::size_t digit_limit = 12;  // with a scale fewer: it must stay a number of bytes
  if (const std::string_view scales = unit == "bytes" ? "KMGT" : "kM"; scales.find(digits.back()) != scales.npos) {
    digits.remove_suffix(1);
    digit_limit = 6;
  }
  if (digits.empty() || digits.size() > digit_limit || digits.find_first_not_of("0123456789") != digits.npos ||
      digits.front() == '0')
    refuse(text, expected);
  const auto name = host.substr(0, host.find(':'));
  const bool is_name = name.find_first_not_of("0123456789.") != name.npos && !host.starts_with('[');
  if (unit != "bytes" && !is_name)
    refuse(text, "about a name: requests and tokens are counted within TLS, which is ended for names alone");
  return fmt::format("{} {} {}", host, words[1], words[2]);
}

Json parse_item(const ConfigKey& key, std::string_view text) {
  switch (key.type) {
    case KeyType::globs:
      return parse_glob(text);
    case KeyType::grants:
      return parse_grant(text);
    case KeyType::variables:
      return parse_variable(text);
    case KeyType::assignments:
      return parse_assignment(text);
    case KeyType::choices:
      return parse_choice(key, text);
    case KeyType::caps:
      return parse_cap(text);
    default:
      return parse_host(text);
  }
}

/// A password would be shown wherever values are: it has its place in the environment.
Json parse_proxy(std::string_view text) {
  constexpr std::string_view scheme = "http://";
  if (text == "direct" || text == "environment") return text;
  if (text.starts_with(scheme) && text.find('@') == text.npos) {
    auto rest = text.substr(scheme.size());
    if (rest.ends_with('/')) rest.remove_suffix(1);
    if (!rest.starts_with("*")) return fmt::format("{}{}", scheme, parse_host(rest));
  }
  if (text.find('@') != text.npos)
    throw Error(
        ErrorCode::usage,
        "the URL holds a user or a password, which 'config show' would print: set https_proxy to it, and this to "
        "environment");
  refuse(text, "direct, environment or a URL such as http://proxy.example.org:3128");
}

Json parse_levels(std::string_view text) {
  constexpr std::string_view levels[] = {"debug", "info", "warn", "error", "off"};
  for (const auto part : split(text, ",")) {
    const auto colon = part.find(':');
    const auto level = colon == part.npos ? part : part.substr(colon + 1);
    if (colon == 0 || std::find(std::begin(levels), std::end(levels), level) == std::end(levels))
      refuse(part, "AREA:LEVEL with a level of debug, info, warn, error, off");
  }
  return text;
}

}  // namespace

bool is_variable_name(std::string_view text) {
  constexpr std::size_t limit = 256;
  if (text.empty() || text.size() > limit || (text[0] >= '0' && text[0] <= '9')) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return is_alnum(c) || c == '_'; });
}

bool image_is_recipe(std::string_view text) {
  return text.find('/') != text.npos || text.ends_with(".yaml") || text.ends_with(".yml");
}

std::string parse_config_host(std::string_view text) {
  return parse_host(text);
}

Json parse_config_text(const ConfigKey& key, std::string_view text) {
  switch (key.type) {
    case KeyType::name:
      return SandboxName::parse(text).str();
    case KeyType::branch:
      return parse_branch(text);
    case KeyType::image:
      return parse_image(text);
    case KeyType::size:
      return parse_size(key, text);
    case KeyType::count:
      return parse_count(key, text);
    case KeyType::boolean:
      return parse_boolean(text);
    case KeyType::choice:
      return parse_choice(key, text);
    case KeyType::levels:
      return parse_levels(text);
    case KeyType::proxy:
      return parse_proxy(text);
    case KeyType::hosts:
    case KeyType::grants:
    case KeyType::choices:
    case KeyType::variables:
    case KeyType::assignments:
    case KeyType::globs: {
      auto items = Json::array();
      for (const auto part : split(text, ", \t")) items.push_back(parse_item(key, part));
      return items;
    }
    case KeyType::caps: {
      auto items = Json::array();
      for (const auto part : split(text, ",")) items.push_back(parse_item(key, part));
      return items;
    }
    case KeyType::secrets:
      throw Error(ErrorCode::usage, "it is a mapping, which only a file can hold");
    case KeyType::text:
      break;
  }
  return text;
}

Json parse_config_node(const ConfigKey& key, const YamlNode& node) {
  using Kind = YamlNode::Kind;
  if (key.type == KeyType::secrets) return parse_secrets(node);
  const auto wrong = [&](std::string_view found) {
    throw Error(ErrorCode::usage, fmt::format("expected {}{}, found {}", is_list(key.type) ? "a list of " : "",
                                              to_string(key.type), found));
  };
  if (is_list(key.type)) {
    if (node.kind != Kind::sequence)
      wrong(node.kind == Kind::scalar ? "a single value" : node.kind == Kind::mapping ? "a mapping" : "nothing");
    auto items = Json::array();
    for (const auto& item : node.items) {
      if (item.kind != Kind::scalar) wrong("something else in the list");
      items.push_back(parse_item(key, item.scalar));
    }
    return items;
  }
  if (node.kind == Kind::null) wrong("nothing");
  if (node.kind == Kind::sequence) wrong("a list");
  if (node.kind == Kind::mapping) wrong("a mapping");
  // "8" in quotes is text: where a number or truth value is meant, the writer meant something else.
  if (node.quoted && (key.type == KeyType::count || key.type == KeyType::boolean)) wrong("text in quotes");
  return parse_config_text(key, node.scalar);
}

}  // namespace agentvm
