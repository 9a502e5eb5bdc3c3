#include "vmm/base/names.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "vmm/base/digest.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {
namespace {
constexpr std::size_t max_name_length = 40;
constexpr std::size_t quote_limit_bytes = 80;  // foreign text in a message

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

std::string fold(std::string_view text, std::size_t limit) {
  std::string result;
  for (char c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (is_plain(c))
      result += c;
    else if (!result.empty() && result.back() != '-')
      result += '-';
  }
  result = result.substr(0, limit);
  while (!result.empty() && result.back() == '-') result.pop_back();
  return result;
}
}  // namespace

SandboxName SandboxName::parse(std::string_view text) {
  bool good = !text.empty() && text.size() <= max_name_length && is_plain(text.front()) && is_plain(text.back());
  for (const char c : text) good = good && (is_plain(c) || c == '-');
  if (!good)
    throw Error(ErrorCode::usage,
                fmt::format("'{}' is not a sandbox name: use 1 to {} of a-z, 0-9 and '-', not at the ends",
                            clean_guest_text(text, Newlines::escape, quote_limit_bytes), max_name_length),
                fmt::format("--name {}", derive(text).str()));
  return SandboxName(std::string(text));
}

SandboxName SandboxName::derive(std::string_view text) {
  auto name = fold(text, max_name_length);
  return SandboxName(name.empty() ? "sandbox" : name);
}

SandboxName SandboxName::with_suffix(std::string_view suffix) const {
  return SandboxName(fold(text_, max_name_length - 1 - suffix.size()) + "-" + std::string(suffix));
}

std::string branch_label(std::string_view branch) {
  constexpr std::size_t digest_digits = 8;
  const auto label = fold(branch, max_name_length);
  // A branch that is named like another one's label with its digest would share it; it gets a digest of its own.
  const auto tail = label.size() - std::min(label.size(), digest_digits);
  const bool looks_made = label.size() >= digest_digits && (tail == 0 || label[tail - 1] == '-') &&
                          label.find_first_not_of("0123456789abcdef", tail) == label.npos;
  if (label == branch && !label.empty() && !looks_made) return label;
  const auto digest = sha256_hex(branch).substr(0, digest_digits);
  return label.empty() ? digest : label + "-" + digest;
}

}  // namespace agentvm
