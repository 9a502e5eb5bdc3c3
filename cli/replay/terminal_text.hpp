#pragma once
// What a program printed to a terminal, as lines of text: for a log. Colours and all else go; what moves the cursor to
// another line ends one. No picture of the screen: what was drawn over itself is there each time.

#include <string>
#include <string_view>

#include "cli/replay/terminal_parser.hpp"

namespace agentvm::cli {

/// Not thread-safe. Pieces may be cut anywhere.
class TerminalText : private TerminalParser::Sink {
 public:
  TerminalText() : parser_(*this) {}
  TerminalText(const TerminalText&) = delete;
  TerminalText& operator=(const TerminalText&) = delete;
  /// The lines that `bytes` completed, each with its newline; safe to show. A line that is the same as the one before
  /// it is left out, a line is at most some 4 KiB.
  std::string feed(std::string_view bytes);
  /// The last line, which nothing has ended.
  std::string rest();

 private:
  void text(std::string_view character) override;
  void control(char character) override;
  void escape(char intermediate, char final) override;
  void sequence(const ControlSequence& sequence) override;
  void end_line();
  /// For what moves away from a line: an empty one is none then.
  void leave_line();

  TerminalParser parser_;
  std::string out_, line_, last_;
  bool at_start_ = false;  // a carriage return came, and the line is still as it was
};

}  // namespace agentvm::cli
