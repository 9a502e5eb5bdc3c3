#pragma once
// Words of the command line to a checked value, by the command table alone.

#include <optional>

#include "cli/commands/command.hpp"

namespace agentvm::cli {

struct Arguments {
  const CommandSpec* command = nullptr;
  std::map<std::string, std::vector<std::string>>
      options;  ///< by name without dashes; a switch given has {"true"} or {"false"}, a greedy one its words
  std::vector<std::string> positionals;
  std::vector<std::string> trailing;  ///< after `--`
  bool has_trailing = false;          ///< `--` was given

  bool given(const std::string& option) const { return options.contains(option); }
  /// The last value given, or `fallback`.
  std::string text(const std::string& option, const std::string& fallback = {}) const;
  bool enabled(const std::string& option, bool fallback = false) const;
  const std::vector<std::string>& all(const std::string& option) const;
  /// Nothing when fewer were given.
  std::optional<std::string> positional(std::size_t index) const;
};

/// Throws `usage` naming the word, with what may have been meant. No word at all is `help`; `--help` anywhere before
/// `--` is `help COMMAND`.
Arguments parse_arguments(const std::vector<std::string>& words);

/// The candidate nearest to `wanted`; empty when none is near enough to be meant.
std::string nearest(std::string_view wanted, const std::vector<std::string>& candidates);

}  // namespace agentvm::cli
