#pragma once
// What of a recording may reach a terminal of the host (ADR 0028): text, colours, the cursor's ways and erasing. What
// makes a terminal answer, sets its title, clipboard or modes, or is not understood is left out. Each sequence is
// written anew from what was understood, none is copied.

#include <string>
#include <string_view>

#include "cli/replay/terminal_parser.hpp"

namespace agentvm::cli {

/// Not thread-safe. Pieces may be cut anywhere: what is not whole yet comes with a later piece.
class TerminalFilter : private TerminalParser::Sink {
 public:
  TerminalFilter() : parser_(*this) {}
  TerminalFilter(const TerminalFilter&) = delete;
  TerminalFilter& operator=(const TerminalFilter&) = delete;
  /// What may be shown of `bytes`: valid UTF-8, at most some twenty times as long.
  std::string feed(std::string_view bytes);

 private:
  void text(std::string_view character) override;
  void control(char character) override;
  void escape(char intermediate, char final) override;
  void sequence(const ControlSequence& sequence) override;
  void mode(const ControlSequence& sequence);

  TerminalParser parser_;
  std::string out_;
};

/// What puts a terminal that showed filtered bytes back: colours, charset, scroll region, wrapping, the cursor.
inline constexpr std::string_view terminal_reset = "\x1b[0m\x1b(B\x1b[r\x1b[?7h\x1b[?25h";

}  // namespace agentvm::cli
