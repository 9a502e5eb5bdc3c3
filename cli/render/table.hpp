#pragma once
// Text for people from the manager's JSON. Pure functions; every foreign text goes through `clean`.

#include "cli/client/output.hpp"

namespace agentvm::cli {

/// Left-aligned columns with two spaces between; the last one is not padded. With `width` > 0 the last column is cut to
/// fit.
class Table {
 public:
  explicit Table(std::vector<std::string> headings) : headings_(std::move(headings)) {}
  struct Cell {
    std::string text;
    Tone tone = Tone::plain;
  };
  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.empty(); }
  std::string text(const Style& style, unsigned width = 0) const;

 private:
  std::vector<std::string> headings_;
  std::vector<std::vector<Cell>> rows_;
};

/// "Label:      value" lines, labels padded to the longest.
std::string labelled(const std::vector<std::pair<std::string, std::string>>& rows, const Style& style);

// Values out of JSON, never throwing: a manager of tomorrow may leave something out.
std::string text_at(const Json& object, const std::string& key, const std::string& fallback = "-");
std::int64_t number_at(const Json& object, const std::string& key, std::int64_t fallback = 0);
bool true_at(const Json& object, const std::string& key);
const Json& list_at(const Json& object, const std::string& key);
const Json& object_at(const Json& object, const std::string& key);

std::string clean(std::string_view text);
/// Complete lines of `text`, cleaned: a log holds what a guest printed. Carriage returns at line ends are dropped (a
/// serial console).
std::string cleaned_lines(std::string_view text);
/// "3d 4h", "2h 5m", "41s"; "-" when negative.
std::string duration(std::int64_t seconds);
/// "8G", "1.4G", "640M", "3K": one decimal below ten.
std::string size(std::int64_t bytes);
Tone state_tone(const std::string& state);
/// "1 commit", "3 commits".
std::string counted(std::int64_t count, const std::string& singular);

}  // namespace agentvm::cli
