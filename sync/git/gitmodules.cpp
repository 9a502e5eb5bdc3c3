// The content of a .gitmodules file: names that leave .git/modules, addresses and paths that a command line would take
// for options, update commands. A small reader of git's configuration syntax, stricter than git's: what it cannot read
// is refused.
#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "sync/git/object_rules.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::git {
namespace {

using Problem = std::optional<std::string>;

std::string lower_case(std::string_view text) {
  std::string result(text);
  for (auto& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

std::string shown(std::string_view text) {
  return "'" + clean_guest_text(text, Newlines::escape, 200) + "'";
}

bool leaves_its_folder(std::string_view name) {
  for (std::size_t start = 0; start <= name.size();) {
    const auto end = std::min(name.find_first_of("/\\", start), name.size());
    if (name.substr(start, end - start) == "..") return true;
    start = end + 1;
  }
  return false;
}

bool has_control(std::string_view text) {
  for (const char c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return true;
  return false;
}

struct Reader {
  std::string_view rest;
  bool done() const { return rest.empty(); }
  char peek() const { return rest.empty() ? '\n' : rest.front(); }
  char take() {
    if (rest.empty()) return '\n';
    char c = rest.front();
    rest.remove_prefix(1);
    if (c == '\r' && !rest.empty() && rest.front() == '\n') {
      rest.remove_prefix(1);
      c = '\n';
    }
    return c;
  }
  void skip_line() {
    while (!done() && take() != '\n') {
    }
  }
  void skip_blanks() {
    while (!done() && (peek() == ' ' || peek() == '\t')) take();
  }
};

/// "[section "sub"]", "[section.sub]" or both after the '['. False when malformed.
bool read_section(Reader& in, std::string& section, std::string& subsection) {
  section.clear();
  subsection.clear();
  while (!in.done() && in.peek() != ']' && in.peek() != ' ' && in.peek() != '\t' && in.peek() != '\n')
    section += in.take();
  in.skip_blanks();
  const auto dot = section.find('.');
  if (dot != std::string::npos) subsection = section.substr(dot + 1);
  if (in.peek() == '"') {
    in.take();
    if (dot != std::string::npos) subsection += '.';
    while (in.peek() != '"') {
      if (in.done()) return false;
      char c = in.take();
      if (c == '\\') c = in.take();
      if (c == '\n') return false;
      subsection += c;
    }
    in.take();
  }
  section = lower_case(section.substr(0, dot));
  return in.take() == ']';
}

/// The value after '=', with quotes, escapes, comments and continued lines. False when malformed.
bool read_value(Reader& in, std::string& value) {
  value.clear();
  bool inside = false;
  std::size_t blanks = 0;
  for (;;) {
    const char c = in.take();
    if (c == '\n') return !inside;
    if (!inside && (c == ';' || c == '#')) {
      in.skip_line();
      return true;
    }
    if (!inside && (c == ' ' || c == '\t')) {
      if (!value.empty()) ++blanks;
      continue;
    }
    value.append(blanks, ' ');
    blanks = 0;
    if (c == '"') {
      inside = !inside;
    } else if (c == '\\') {
      const char escaped = in.take();
      if (escaped == '\n') continue;
      if (escaped == 't')
        value += '\t';
      else if (escaped == 'n')
        value += '\n';
      else if (escaped == 'b')
        value += '\b';
      else if (escaped == '\\' || escaped == '"')
        value += escaped;
      else
        return false;
    } else {
      value += c;
    }
  }
}

int hex_digit(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

/// What an address that is decoded later turns into; credential helpers read it line by line (CVE-2020-5260).
bool decodes_to_control(std::string_view url) {
  for (std::size_t i = 0; i + 2 < url.size(); ++i) {
    if (url[i] != '%') continue;
    const int high = hex_digit(url[i + 1]), low = hex_digit(url[i + 2]);
    if (high >= 0 && low >= 0 && (high * 16 + low < 0x20 || high * 16 + low == 0x7F)) return true;
  }
  return false;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// Of letters, digits and `marks`.
bool consists_of(std::string_view text, std::string_view marks) {
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return is_letter(c) || is_digit(c) || marks.find(c) != std::string_view::npos; });
}

/// What follows the host's ':'. Empty is the scheme's own.
bool is_port(std::string_view port) {
  constexpr unsigned last = 65535;
  unsigned number = 0;
  const auto [end, problem] = std::from_chars(port.data(), port.data() + port.size(), number);
  return port.empty() || (problem == std::errc{} && end == port.data() + port.size() && number > 0 && number <= last);
}

bool has_broken_escape(std::string_view url) {
  for (auto at = url.find('%'); at != std::string_view::npos; at = url.find('%', at + 1))
    if (at + 2 >= url.size() || hex_digit(url[at + 1]) < 0 || hex_digit(url[at + 2]) < 0) return true;
  return false;
}

/// Whether more folders are left than were entered, each ".." also when it is encoded.
bool leaves_its_root(std::string_view path) {
  int depth = 0;
  for (std::size_t start = 0; start < path.size();) {
    const auto end = std::min(path.find('/', start), path.size());
    auto segment = std::string(path.substr(start, end - start));
    for (auto at = segment.find('%'); at != std::string::npos; at = segment.find('%', at))
      segment.replace(at, 3, segment.substr(at, 3) == "%2e" || segment.substr(at, 3) == "%2E" ? "." : "x");
    if (segment == "..")
      --depth;
    else if (segment != ".")
      ++depth;
    if (depth < 0) return true;
    start = end + 1;
  }
  return false;
}

/// What keeps an address of a kind that asks credential helpers from being one: they would answer for any host, or for
/// another than the one that is asked (CVE-2020-11008; what git itself refuses since 2.41, urlmatch.c).
const char* address_problem(std::string_view url) {
  bool named = false;  // as another's helper: no scheme of its own is asked for
  for (const char* prefix : {"http::", "https::", "ftp::", "ftps::"})
    if (lower_case(url.substr(0, std::string_view(prefix).size())) == prefix) {
      url.remove_prefix(std::string_view(prefix).size());
      if (url.find("://") == std::string_view::npos) return "without a host";
      named = true;
      break;
    }
  // Relative ones lose a folder per "../"; what then begins with ':' or '/' eats the host of the address it is joined
  // to.
  if (url.starts_with("./") || url.starts_with("../") || url.starts_with(".\\") || url.starts_with("..\\")) {
    while (url.starts_with("./") || url.starts_with("../") || url.starts_with(".\\") || url.starts_with("..\\"))
      url.remove_prefix(url[1] == '.' ? 3 : 2);
    return url.starts_with(':') || url.starts_with('/') ? "without a host" : nullptr;
  }
  const auto mark = url.find("://");
  if (mark == std::string_view::npos) return nullptr;
  const auto scheme = lower_case(url.substr(0, mark));
  if (!named && scheme != "http" && scheme != "https" && scheme != "ftp" && scheme != "ftps") return nullptr;
  if (scheme.empty() || !is_letter(scheme[0]) || !consists_of(scheme, "+.-")) return "with an impossible scheme";
  if (has_broken_escape(url)) return "with a broken escape";
  url.remove_prefix(mark + 3);
  const auto path = std::min(url.find_first_of("/?#"), url.size());
  auto host = url.substr(0, path);
  if (const auto at = host.find('@'); at != std::string_view::npos) host.remove_prefix(at + 1);
  if (host.empty() || host.front() == ':') return "without a host";
  if (const auto colon = host.find_last_of(":]"); colon != std::string_view::npos && host[colon] == ':') {
    if (!is_port(host.substr(colon + 1))) return "with an impossible port";
    host = host.substr(0, colon);
  }
  if (!consists_of(host, ".-_[:]")) return "with an impossible host name";
  url = url.substr(path, url.find_first_of("?#") - path);
  if (url.starts_with('/')) url.remove_prefix(1);
  return leaves_its_root(url) ? "that leaves its host" : nullptr;
}

Problem setting_problem(const std::string& name, const std::string& key, const std::string& value) {
  if (name.empty() || leaves_its_folder(name)) return "names a submodule outside of its folder: " + shown(name);
  if (has_control(name) || has_control(value)) return "has a control character in submodule " + shown(name);
  if (key == "url" && value.starts_with('-'))
    return "has a submodule address that looks like an option: " + shown(value);
  if (key == "url" && lower_case(value).starts_with("ext::"))
    return "has a submodule address that runs a command: " + shown(value);
  if (key == "url" && decodes_to_control(value))
    return "has a submodule address with an encoded control character: " + shown(value);
  if (key == "url")
    if (const char* problem = address_problem(value))
      return fmt::format("has a submodule address {}: {}", problem, shown(value));
  if (key == "path" && (value.starts_with('-') || value.starts_with('/') || leaves_its_folder(value)))
    return "has a submodule path that leaves the tree or looks like an option: " + shown(value);
  if (key == "update" && value.starts_with('!'))
    return "has a submodule that updates by running a command: " + shown(value);
  return std::nullopt;
}

constexpr const char* cannot_be_read = "is a .gitmodules file that cannot be read";

Problem first_problem(std::string_view content) {
  Reader in{content};
  if (content.starts_with("\xEF\xBB\xBF")) in.rest.remove_prefix(3);
  std::string section, name, value;
  while (!in.done()) {
    const char c = in.take();
    if (c == '\n' || c == ' ' || c == '\t') continue;
    if (c == '#' || c == ';') {
      in.skip_line();
      continue;
    }
    if (c == '[') {
      if (!read_section(in, section, name)) return cannot_be_read;
      if (section == "submodule")
        if (auto problem = setting_problem(name, "", "")) return problem;
      continue;
    }
    std::string key(1, c);
    while (!in.done() && in.peek() != '=' && in.peek() != '\n' && in.peek() != ' ' && in.peek() != '\t' &&
           in.peek() != '#' && in.peek() != ';')
      key += in.take();
    in.skip_blanks();
    value.clear();
    if (in.peek() == '=') {
      in.take();
      if (!read_value(in, value)) return cannot_be_read;
    } else {
      in.skip_line();
    }
    if (section == "submodule")
      if (auto problem = setting_problem(name, lower_case(key), value)) return problem;
  }
  return std::nullopt;
}

/// Git takes one for a blank, in some places.
bool has_return_within_a_line(std::string_view content) {
  for (auto at = content.find('\r'); at != std::string_view::npos; at = content.find('\r', at + 1))
    if (!content.substr(at).starts_with("\r\n")) return true;
  return false;
}

}  // namespace

Problem gitmodules_problem(std::string_view content) {
  auto problem = first_problem(content);
  if (!problem && has_return_within_a_line(content)) return cannot_be_read;
  return problem;
}

}  // namespace agentvm::git
