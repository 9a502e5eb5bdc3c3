#include "cli/client/terminal.hpp"

#include <csignal>
#include <initializer_list>

#include <sys/ioctl.h>
#include <unistd.h>

namespace agentvm::cli {
namespace {

// For the crash handler, which may use nothing but async-signal-safe calls and plain memory.
termios saved;
volatile std::sig_atomic_t saved_valid = 0;

void on_crash(int number) {
  if (saved_valid) ::tcsetattr(STDIN_FILENO, TCSANOW, &saved);
  ::signal(number, SIG_DFL);
  ::raise(number);
}

constexpr int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

}  // namespace

TerminalSize terminal_size() {
  for (const int fd : {STDOUT_FILENO, STDIN_FILENO}) {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) return {size.ws_col, size.ws_row};
  }
  return {};
}

bool on_terminal() {
  return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
}

RawTerminal::RawTerminal() {
  if (::tcgetattr(STDIN_FILENO, &saved) < 0) return;
  saved_valid = 1;
  for (const int number : crashes) ::signal(number, on_crash);
  raw_ = saved;
  ::cfmakeraw(&raw_);
  active_ = true;
  again();
}

void RawTerminal::again() {
  if (active_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw_);
}

void RawTerminal::restore() {
  if (!active_) return;
  active_ = false;
  ::tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
  saved_valid = 0;
  for (const int number : crashes) ::signal(number, SIG_DFL);
}

RawTerminal::~RawTerminal() {
  restore();
}

}  // namespace agentvm::cli
