#include "cli/replay/player.hpp"

#include <csignal>

#include <poll.h>
#include <unistd.h>

#include "cli/client/signals.hpp"
#include "cli/client/terminal.hpp"
#include "cli/replay/terminal_filter.hpp"

namespace agentvm::cli {
namespace {

constexpr char ctrl_c = 0x03;
constexpr std::string_view other_screen = "\x1b[?1049h\x1b[H\x1b[2J", first_screen = "\x1b[?1049l";

class Player {
 public:
  explicit Player(Output& output)
      : output_(output), signals_(SignalWatch::Window::watch), keys_(::isatty(STDIN_FILENO) == 1) {
    output_.print(other_screen);
  }
  ~Player() {
    try {
      output_.print(std::string(terminal_reset) + std::string(first_screen));
    } catch (const Error&) {
      // Nobody is there to see it any more.
    }
  }
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;

  int run(const Recording& recording, const PlayOptions& options) {
    const auto waits = replay_waits(recording, options.speed, options.idle_limit_seconds);
    TerminalFilter filter;
    for (std::size_t i = 0; i < waits.size(); ++i) {
      if (!wait(std::chrono::duration<double>(waits[i]))) return status_;
      output_.print(filter.feed(recording.events[i].data));
    }
    if (!keys_) return 0;
    held_ = true;  // the last picture stays
    any_key_ends_ = true;
    wait(std::chrono::duration<double>(0));
    return status_;
  }

 private:
  using Span = std::chrono::duration<double>;

  /// False when it is to end, with `status_`. What passes while it is held does not count.
  bool wait(Span left) {
    for (;;) {
      if (!held_ && left <= Span(0)) return true;
      const auto begun = std::chrono::steady_clock::now();
      pollfd entries[2] = {{signals_.fd(), POLLIN, 0}, {keys_ ? STDIN_FILENO : -1, POLLIN, 0}};
      constexpr double longest_wait_ms = 60'000;
      const auto timeout = held_ ? -1 : static_cast<int>(std::min(left.count() * 1000 + 1, longest_wait_ms));
      const bool was_held = held_;
      ::poll(entries, 2, timeout);
      if (!was_held) left -= std::chrono::steady_clock::now() - begun;
      if (!hear_signals() || (entries[1].revents && !hear_keys())) return false;
    }
  }

  bool hear_signals() {
    while (const auto number = signals_.take()) {
      if (*number == SIGCONT) raw_.again();
      if (*number == SIGWINCH || *number == SIGCONT) continue;
      status_ = signal_exit_base + *number;
      return false;
    }
    return true;
  }

  bool hear_keys() {
    char keys[64];
    const ssize_t count = ::read(STDIN_FILENO, keys, sizeof keys);
    if (count <= 0) {  // the terminal is gone
      keys_ = false;
      return !any_key_ends_;
    }
    for (ssize_t i = 0; i < count; ++i) {
      if (keys[i] == ctrl_c) status_ = signal_exit_base + SIGINT;
      if (keys[i] == ctrl_c || keys[i] == 'q' || keys[i] == 'Q' || any_key_ends_) return false;
      if (keys[i] == ' ') held_ = !held_;
    }
    return true;
  }

  Output& output_;
  SignalWatch signals_;
  RawTerminal raw_;
  bool keys_, held_ = false, any_key_ends_ = false;
  int status_ = 0;
};

}  // namespace

int play(const Recording& recording, const PlayOptions& options, Output& output) {
  return Player(output).run(recording, options);
}

}  // namespace agentvm::cli
