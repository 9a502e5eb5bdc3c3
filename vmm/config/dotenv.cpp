#include <algorithm>

#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/config.hpp"
#include "vmm/config/values.hpp"

namespace agentvm {
namespace {

constexpr std::string_view blanks = " \t\r";

/// One value of such a file, from behind its '='; a quoted one may go on over lines.
class Value {
 public:
  Value(std::string_view text, std::size_t& position) : text_(text), position_(position) {}

  /// False where a quote is not closed, or something follows the closing one.
  bool read(std::string& result) {
    position_ = std::min(text_.find_first_not_of(blanks, position_), text_.size());
    const char first = position_ < text_.size() ? text_[position_] : '\n';
    if (first != '"' && first != '\'') return plain(result);
    ++position_;
    return quoted(first, result) && ends();
  }

 private:
  bool plain(std::string& result) {
    const auto end = std::min(text_.find('\n', position_), text_.size());
    auto line = text_.substr(position_, end - position_);
    position_ = end;
    for (auto comment = line.find('#'); comment != line.npos; comment = line.find('#', comment + 1)) {
      if (comment > 0 && blanks.find(line[comment - 1]) == blanks.npos) continue;
      line = line.substr(0, comment);
      break;
    }
    result.assign(line.substr(0, line.find_last_not_of(blanks) + 1));
    return true;
  }

  bool quoted(char quote, std::string& result) {
    for (; position_ < text_.size(); ++position_) {
      char c = text_[position_];
      if (c == quote) {
        ++position_;
        return true;
      }
      if (quote == '"' && c == '\\' && position_ + 1 < text_.size()) {
        c = text_[++position_];
        if (c == 'n')
          c = '\n';
        else if (c == 't')
          c = '\t';
        else if (c == 'r')
          c = '\r';
        else if (c != '"' && c != '\\' && c != '$' && c != '`')
          result += '\\';
      }
      result += c;
    }
    return false;
  }

  /// Nothing but blanks and a comment may follow.
  bool ends() {
    position_ = std::min(text_.find_first_not_of(blanks, position_), text_.size());
    if (position_ < text_.size() && text_[position_] == '#')
      position_ = std::min(text_.find('\n', position_), text_.size());
    return position_ == text_.size() || text_[position_] == '\n';
  }

  std::string_view text_;
  std::size_t& position_;
};

}  // namespace

std::map<std::string, std::string> parse_dotenv(std::string_view text, const std::string& file) {
  std::map<std::string, std::string> variables;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (std::size_t position = 0; position < text.size(); ++position) {
    position = std::min(text.find_first_not_of(" \t\r\n", position), text.size());
    if (position == text.size()) break;
    const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(position), '\n') + 1;
    // The text may be nobody's business: only the place is told.
    const auto refuse = [&](std::string_view why) {
      throw Error(ErrorCode::usage, fmt::format("{}:{}: {}", file, line, why));
    };
    const auto end = std::min(text.find('\n', position), text.size());
    if (text[position] == '#') {
      position = end;
      continue;
    }
    auto name = text.substr(position, end - position);
    const auto equals = name.find('=');
    if (equals == name.npos) refuse("expected NAME=VALUE");
    name = name.substr(0, equals);
    if (name.starts_with("export ")) name.remove_prefix(std::min(name.find_first_not_of(blanks, 6), name.size()));
    name = name.substr(0, name.find_last_not_of(blanks) + 1);
    if (!is_variable_name(name)) refuse("expected the name of a variable before '='");
    position += equals + 1;
    std::string value;
    if (!Value(text, position).read(value)) refuse("a quote that is not closed, or text behind one");
    if (value.find('\0') != value.npos) refuse("a value with a NUL in it");
    variables.insert_or_assign(std::string(name), std::move(value));
  }
  return variables;
}

}  // namespace agentvm
