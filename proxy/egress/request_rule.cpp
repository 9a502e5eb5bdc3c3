#include "proxy/egress/request_rule.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proxy/http/fields.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::egress {
namespace {

constexpr std::size_t shown_bytes = 120;
/// What frameworks take a method from, beside the request's own.
constexpr std::string_view overriding_fields[] = {"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"};

/// `*` stands for any text. Linear in the text for each `*`.
bool matches_pattern(std::string_view pattern, std::string_view text) {
  std::size_t at = 0, in = 0, star = pattern.npos, resume = 0;
  while (in < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      resume = in;
    } else if (at < pattern.size() && pattern[at] == text[in]) {
      ++at;
      ++in;
    } else if (star != pattern.npos) {
      at = star + 1;
      in = ++resume;
    } else {
      return false;
    }
  }
  while (at < pattern.size() && pattern[at] == '*') ++at;
  return at == pattern.size();
}

std::string_view path_of(std::string_view target) {
  return target.substr(0, target.find_first_of("?#"));
}

void replace_each(std::string& text, std::string_view what, std::string_view with) {
  // Not replace: GCC 12 takes its copy for one of more bytes than there are.
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at)) {
    text.erase(at, what.size());
    text.insert(at, with);
  }
}

/// Whether a server could resolve it to another path: those that decode, also twice, take backslashes for slashes or
/// leave parameters out (`..;x`) included.
bool is_ambiguous(std::string_view path) {
  std::string text = http::lower(path);
  replace_each(text, "%25", "%");
  replace_each(text, "%2e", ".");
  for (const auto* separator : {"%2f", "%5c", "\\"}) replace_each(text, separator, "/");
  if (text.find("%00") != text.npos) return true;
  for (std::size_t start = 0; start <= text.size();) {
    const auto end = std::min(text.find('/', start), text.size());
    const auto segment = std::string_view(text).substr(start, end - start);
    const auto name = segment.substr(0, segment.find_first_of(";"));
    if (name == "." || name == "..") return true;
    start = end + 1;
  }
  return false;
}

}  // namespace

RequestRule RequestRule::parse(std::string_view text) {
  const auto space = std::min(text.find(' '), text.size());
  RequestRule rule{.methods = {}, .path = std::string(text.substr(std::min(space + 1, text.size())))};
  auto methods = text.substr(0, space);
  while (!methods.empty() && methods != "*") {
    const auto comma = std::min(methods.find(','), methods.size());
    rule.methods.emplace_back(methods.substr(0, comma));
    methods.remove_prefix(std::min(comma + 1, methods.size()));
  }
  return rule;
}

bool RequestRule::matches(std::string_view method, std::string_view wanted) const {
  const bool method_fits = methods.empty() || std::find(methods.begin(), methods.end(), method) != methods.end();
  return method_fits && matches_pattern(path, wanted);
}

std::string RequestRule::str() const {
  return fmt::format("{} {}", methods.empty() ? "*" : fmt::format("{}", fmt::join(methods, ",")), path);
}

std::string beyond_rules(const std::vector<RequestRule>& rules, const http::Request& request) {
  if (rules.empty()) return "";
  const auto path = path_of(request.target);
  for (const auto field : overriding_fields)
    if (http::find_field(request.fields, field)) return fmt::format("it has a field {}", field);
  if (is_ambiguous(path))
    return fmt::format("its path can be read in several ways: {}", clean_guest_text(path.substr(0, shown_bytes)));
  if (std::any_of(rules.begin(), rules.end(), [&](const auto& rule) { return rule.matches(request.method, path); }))
    return "";
  return fmt::format("it is {} {}", clean_guest_text(request.method.substr(0, shown_bytes)),
                     clean_guest_text(path.substr(0, shown_bytes)));
}

}  // namespace agentvm::egress
