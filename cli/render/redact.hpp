#pragma once
#include <string>
#include <utility>
#include <vector>

namespace agentvm::cli {

/// Puts placeholders in the place of words that tell who somebody is or what they work on. Pure, not thread-safe.
class Redactor {
 public:
  /// Words of less than three characters are not hidden: they would be found everywhere.
  void hide(const std::string& word, const std::string& placeholder);
  /// Longer words first, and only whole ones: "ann" is not hidden in "planned".
  std::string apply(std::string text) const;

 private:
  std::vector<std::pair<std::string, std::string>> words_;
};

}  // namespace agentvm::cli
