#include "cli/render/redact.hpp"

#include <algorithm>
#include <cctype>

namespace agentvm::cli {
namespace {

constexpr std::size_t shortest_word = 3;

bool in_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
}

/// Whether what stands at `at` is a word of its own there.
bool whole(const std::string& text, std::size_t at, const std::string& word) {
  const auto end = at + word.size();
  const bool begins = at == 0 || !in_word(word.front()) || !in_word(text[at - 1]);
  return begins && (end == text.size() || !in_word(word.back()) || !in_word(text[end]));
}

}  // namespace

void Redactor::hide(const std::string& word, const std::string& placeholder) {
  if (word.size() < shortest_word) return;
  const auto longer = [](const auto& one, const auto& other) { return one.first.size() > other.first.size(); };
  const std::pair entry(word, placeholder);
  words_.insert(std::upper_bound(words_.begin(), words_.end(), entry, longer), entry);
}

std::string Redactor::apply(std::string text) const {
  for (const auto& [word, placeholder] : words_)
    for (auto at = text.find(word); at != std::string::npos; at = text.find(word, at)) {
      if (whole(text, at, word)) {
        text.replace(at, word.size(), placeholder);
        at += placeholder.size();
      } else {
        ++at;
      }
    }
  return text;
}

}  // namespace agentvm::cli
