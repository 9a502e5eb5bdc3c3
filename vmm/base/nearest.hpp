#pragma once
// "Did you mean": the known word that a mistyped one most resembles.

#include <span>
#include <string_view>

namespace agentvm {

/// Insertions, deletions and replacements of single bytes that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate nearest to `word` by edit distance; empty when none is near enough to be meant, or `word` is longer
/// than 64 bytes (the text is foreign: the work stays bounded).
std::string_view nearest_word(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace agentvm
