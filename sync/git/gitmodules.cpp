// The content of a .gitmodules file: names that leave .git/modules, addresses and paths that a command line would take
// for options, update commands. A small reader of git's configuration syntax, stricter than git's: what it cannot read
// is refused.
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

/// "[section "sub"]" after the '['. False when malformed.
bool read_section(Reader& in, std::string& section, std::string& subsection) {
  section.clear();
  subsection.clear();
  while (!in.done() && in.peek() != ']' && in.peek() != ' ' && in.peek() != '\t' && in.peek() != '\n')
    section += in.take();
  in.skip_blanks();
  if (in.peek() == '"') {
    in.take();
    while (in.peek() != '"') {
      if (in.done()) return false;
      char c = in.take();
      if (c == '\\') c = in.take();
      if (c == '\n') return false;
      subsection += c;
    }
    in.take();
  } else if (const auto dot = section.find('.'); dot != std::string::npos) {
    subsection = section.substr(dot + 1);
    section.resize(dot);
  }
  section = lower_case(section);
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

/// An address of a kind that asks credential helpers, without a host: they would answer for any (CVE-2020-11008).
bool has_no_host(std::string_view url) {
  for (const char* prefix : {"http::", "https::", "ftp::", "ftps::"})
    if (lower_case(url.substr(0, std::string_view(prefix).size())) == prefix) {
      url.remove_prefix(std::string_view(prefix).size());
      if (url.find("://") == std::string_view::npos) return true;
      break;
    }
  // Relative ones lose a folder per "../"; what then begins with ':' or '/' eats the host of the address it is joined
  // to.
  if (url.starts_with("./") || url.starts_with("../") || url.starts_with(".\\") || url.starts_with("..\\")) {
    while (url.starts_with("./") || url.starts_with("../") || url.starts_with(".\\") || url.starts_with("..\\"))
      url.remove_prefix(url[1] == '.' ? 3 : 2);
    return url.starts_with(':') || url.starts_with('/');
  }
  const auto mark = url.find("://");
  if (mark == std::string_view::npos) return false;
  const auto scheme = lower_case(url.substr(0, mark));
  if (scheme != "http" && scheme != "https" && scheme != "ftp" && scheme != "ftps") return false;
  auto host = url.substr(mark + 3);
  host = host.substr(0, host.find_first_of("/?#"));
  if (const auto at = host.rfind('@'); at != std::string_view::npos) host.remove_prefix(at + 1);
  return host.empty() || host.front() == ':';
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
  if (key == "url" && has_no_host(value)) return "has a submodule address without a host: " + shown(value);
  if (key == "path" && (value.starts_with('-') || value.starts_with('/') || leaves_its_folder(value)))
    return "has a submodule path that leaves the tree or looks like an option: " + shown(value);
  if (key == "update" && value.starts_with('!'))
    return "has a submodule that updates by running a command: " + shown(value);
  return std::nullopt;
}

}  // namespace

Problem gitmodules_problem(std::string_view content) {
  const Problem malformed = "is a .gitmodules file that cannot be read";
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
      if (!read_section(in, section, name)) return malformed;
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
      if (!read_value(in, value)) return malformed;
    } else {
      in.skip_line();
    }
    if (section == "submodule")
      if (auto problem = setting_problem(name, lower_case(key), value)) return problem;
  }
  return std::nullopt;
}

}  // namespace agentvm::git
