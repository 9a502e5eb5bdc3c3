#pragma once
// What a package's name, version and digest may look like, as far as they go into addresses, paths and scripts. Pure.

#include <algorithm>
#include <cctype>
#include <string_view>

namespace agentvm::guest {

inline bool letters_digits_or(std::string_view text, std::string_view extra) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || extra.find(c) != std::string_view::npos;
  });
}

/// npm's rule: "name" or "@scope/name".
inline bool is_package_name(std::string_view text) {
  const auto slash = text.find('/');
  const bool scoped = text.starts_with('@') && slash != std::string_view::npos;
  const auto part = [](std::string_view name) {
    return !name.empty() && name[0] != '.' && letters_digits_or(name, "-_.");
  };
  return scoped ? part(text.substr(1, slash - 1)) && part(text.substr(slash + 1)) : part(text);
}

inline bool is_package_version(std::string_view text) {
  constexpr std::size_t longest = 128;
  return !text.empty() && text.size() <= longest && text[0] != '.' && letters_digits_or(text, "-+.");
}

/// Of a SHA-512.
inline bool is_package_digest(std::string_view text) {
  constexpr std::size_t digits = 128;
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace agentvm::guest
