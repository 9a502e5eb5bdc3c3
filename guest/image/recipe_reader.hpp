#pragma once
// Reads the mappings that recipes and layers are. Every error is a `usage` with "file:line:column: reason".

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/base/nearest.hpp"
#include "vmm/base/sizes.hpp"
#include "vmm/base/yaml.hpp"

namespace agentvm {

inline constexpr std::size_t longest_name_bytes = 128;
inline constexpr std::size_t most_items = 2000;

inline bool lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

inline bool only(std::string_view text, std::string_view extra) {
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return lower_or_digit(c) || extra.find(c) != std::string_view::npos; });
}

/// Debian's rule for package names. What passes can be neither an option nor a path nor shell syntax of any program it
/// reaches.
inline bool package_name(std::string_view text) {
  return text.size() >= 2 && text.size() <= longest_name_bytes && lower_or_digit(text[0]) && only(text, "+-.");
}

inline bool suite_name(std::string_view text) {
  return !text.empty() && text.size() <= 32 && lower_or_digit(text[0]) && only(text, "-");
}

inline bool unit_name(std::string_view text) {
  constexpr std::array<std::string_view, 8> kinds = {".service", ".socket",    ".timer", ".target",
                                                     ".mount",   ".automount", ".path",  ".device"};
  if (text.empty() || text.size() > longest_name_bytes || text[0] == '.' || text[0] == '-') return false;
  const bool characters = std::all_of(text.begin(), text.end(), [](char c) {
    return lower_or_digit(c) || (c >= 'A' && c <= 'Z') || std::string_view("-_.@:\\").find(c) != std::string_view::npos;
  });
  return characters &&
         std::any_of(kinds.begin(), kinds.end(), [&](std::string_view kind) { return text.ends_with(kind); });
}

class RecipeReader {
 public:
  /// `what` says what kind of file it is, when it is none.
  RecipeReader(const YamlNode& root, const std::string& file, std::span<const std::string_view> keys, const char* what)
      : root_(root), file_(file) {
    if (root.kind != YamlNode::Kind::mapping) fail(root.mark, what);
    for (const auto& entry : root.entries) {
      if (std::find(keys.begin(), keys.end(), entry.key) != keys.end()) continue;
      const auto nearest = nearest_word(entry.key, keys);
      fail(entry.key_mark, fmt::format("unknown key '{}'{}", entry.key,
                                       nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
    }
  }

  [[noreturn]] void fail(YamlMark mark, const std::string& reason) const {
    throw Error(ErrorCode::usage, fmt::format("{}: {}", at(file_, mark), reason));
  }

  const YamlNode& needed(const char* key) const {
    const auto* node = root_.find(key);
    if (!node) fail(root_.mark, fmt::format("key '{}' is missing", key));
    return *node;
  }

  std::string text(const YamlNode& node, const char* what, bool (*valid)(std::string_view)) const {
    if (node.kind != YamlNode::Kind::scalar) fail(node.mark, fmt::format("expected {}", what));
    if (!valid(node.scalar)) fail(node.mark, fmt::format("'{}' is not {}", node.scalar, what));
    return node.scalar;
  }

  /// Sorted.
  std::vector<std::string> list(const YamlNode& node, const char* what, bool (*valid)(std::string_view)) const {
    if (node.kind == YamlNode::Kind::null) return {};
    if (node.kind != YamlNode::Kind::sequence) fail(node.mark, fmt::format("expected a list, each item {}", what));
    if (node.items.size() > most_items) fail(node.mark, fmt::format("more than {} items", most_items));
    std::set<std::string> found;
    for (const auto& item : node.items)
      if (!found.insert(text(item, what, valid)).second)
        fail(item.mark, fmt::format("'{}' is listed twice", item.scalar));
    return {found.begin(), found.end()};
  }

  ByteSize size(const YamlNode& node, ByteSize least, ByteSize most) const {
    if (node.kind != YamlNode::Kind::scalar) fail(node.mark, "expected a size, such as 32G");
    try {
      const auto size = ByteSize::parse(node.scalar);
      if (size < least || size > most)
        fail(node.mark, fmt::format("{} is not between {} and {}", node.scalar, least.str(), most.str()));
      return ByteSize(size.bytes() & ~((std::uint64_t{1} << 20) - 1));  // whole mebibytes
    } catch (const Error& problem) {
      if (problem.message().starts_with(file_)) throw;
      fail(node.mark, problem.message());
    }
  }

 private:
  const YamlNode& root_;
  const std::string& file_;
};

}  // namespace agentvm
