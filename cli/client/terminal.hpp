#pragma once
#include <optional>

#include <termios.h>

namespace agentvm::cli {

struct TerminalSize {
  unsigned columns = 80, rows = 24;
};
/// Of standard output's terminal, else standard input's; the default where neither is one.
TerminalSize terminal_size();
/// Whether standard input and output are both terminals.
bool on_terminal();

/// Standard input's terminal in raw mode while it lives; one at a time. It is put back on every way out that a process
/// can see: destruction, and the signals of a crash. Does nothing when standard input is no terminal.
class RawTerminal {
 public:
  RawTerminal();
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  /// Raw again, after the shell took the terminal back (stop and continue).
  void again();
  void restore();

 private:
  bool active_ = false;
  termios raw_{};
};

}  // namespace agentvm::cli
