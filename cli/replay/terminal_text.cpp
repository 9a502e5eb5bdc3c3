#include "cli/replay/terminal_text.hpp"

#include <algorithm>
#include <utility>

namespace agentvm::cli {
namespace {

constexpr std::size_t line_limit_bytes = 4096;
constexpr unsigned widest_gap = 256;

}  // namespace

std::string TerminalText::feed(std::string_view bytes) {
  parser_.feed(bytes);
  return std::exchange(out_, {});
}

std::string TerminalText::rest() {
  leave_line();
  return std::exchange(out_, {});
}

void TerminalText::end_line() {
  line_.resize(line_.find_last_not_of(" \t") + 1);
  at_start_ = false;
  if (line_.empty() || line_ != last_) out_ += line_ + "\n";
  last_ = std::exchange(line_, {});
}

void TerminalText::leave_line() {
  at_start_ = false;
  if (line_.find_first_not_of(" \t") == line_.npos)
    line_.clear();
  else
    end_line();
}

void TerminalText::text(std::string_view character) {
  if (at_start_) leave_line();  // it is drawn anew
  if (line_.size() >= line_limit_bytes) end_line();
  line_ += character;
}

void TerminalText::control(char character) {
  if (character == '\n') end_line();
  if (character == '\r') at_start_ = true;
  if (character == '\t' && line_.size() < line_limit_bytes) line_ += '\t';
  if (character == '\b' && !line_.empty()) {
    while (line_.size() > 1 && (static_cast<unsigned char>(line_.back()) & 0xc0) == 0x80) line_.pop_back();
    line_.pop_back();
  }
}

void TerminalText::escape(char intermediate, char final) {
  constexpr std::string_view moves = "8DEMc";
  if (intermediate == 0 && moves.find(final) != moves.npos) leave_line();
}

void TerminalText::sequence(const ControlSequence& sequence) {
  if (sequence.prefix != 0 || sequence.intermediate != 0) return;
  constexpr std::string_view moves = "ABEFHJSTdefu";
  if (sequence.final == 'C') {
    const auto numbers = sequence.numbers(1);
    const auto gap = numbers.empty() ? 1 : std::min(std::max(numbers[0], 1u), widest_gap);
    if (line_.size() < line_limit_bytes) line_.append(gap, ' ');
  } else if (sequence.final == 'G') {
    at_start_ = true;
  } else if (sequence.final == 'J') {
    const auto numbers = sequence.numbers(0);
    if (!numbers.empty() && numbers[0] != 0) leave_line();
  } else if (moves.find(sequence.final) != moves.npos) {
    leave_line();
  }
}

}  // namespace agentvm::cli
