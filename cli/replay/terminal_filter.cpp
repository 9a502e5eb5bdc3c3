#include "cli/replay/terminal_filter.hpp"

#include <utility>

#include <fmt/format.h>

namespace agentvm::cli {
namespace {

constexpr std::string_view clear_screen = "\x1b[H\x1b[2J";
/// Sequences of numbers alone, with how many of them at most: cursor, erase, insert, delete, scroll, repeat, region.
constexpr struct {
  char final;
  std::size_t numbers;
} plain[] = {{'A', 1}, {'B', 1}, {'C', 1}, {'D', 1}, {'E', 1}, {'F', 1}, {'G', 1}, {'H', 2}, {'I', 1},
             {'J', 1}, {'K', 1}, {'L', 1}, {'M', 1}, {'P', 1}, {'S', 1}, {'T', 1}, {'X', 1}, {'Z', 1},
             {'@', 1}, {'`', 1}, {'a', 1}, {'b', 1}, {'d', 1}, {'e', 1}, {'f', 2}, {'r', 2}};

std::size_t numbers_of(char final) {
  for (const auto& each : plain)
    if (each.final == final) return each.numbers;
  return 0;
}

}  // namespace

std::string TerminalFilter::feed(std::string_view bytes) {
  parser_.feed(bytes);
  return std::exchange(out_, {});
}

void TerminalFilter::text(std::string_view character) {
  out_ += character;
}

void TerminalFilter::control(char character) {
  constexpr std::string_view shown = "\b\t\n\r";  // no bell, and none that changes the charset
  if (shown.find(character) != shown.npos) out_ += character;
}

void TerminalFilter::escape(char intermediate, char final) {
  constexpr std::string_view moves = "78DEM";  // cursor kept and fetched, a line down or up
  if (intermediate == 0 && moves.find(final) != moves.npos) out_ += {'\x1b', final};
  // The charset of lines and corners, and back; no other, and as G0 alone.
  if (intermediate == '(' && (final == '0' || final == 'B')) out_ += {'\x1b', '(', final};
  if (intermediate == 0 && final == 'c') {  // a reset would undo modes that are the user's
    out_ += terminal_reset;
    out_ += clear_screen;
  }
}

void TerminalFilter::sequence(const ControlSequence& sequence) {
  if (sequence.intermediate != 0) return;
  if (sequence.prefix == '?' && (sequence.final == 'h' || sequence.final == 'l')) return mode(sequence);
  if (sequence.prefix != 0) return;
  if (sequence.final == 'm') {
    out_ += fmt::format("\x1b[{}m", sequence.parameters);  // colours have parts (':'), and change nothing else
    return;
  }
  if ((sequence.final == 's' || sequence.final == 'u') && sequence.parameters.empty()) {
    out_ += fmt::format("\x1b[{}", sequence.final);
    return;
  }
  const auto most = numbers_of(sequence.final);
  if (most == 0) return;
  constexpr unsigned absent = 10'000;  // more than four digits can say
  const auto numbers = sequence.numbers(absent);
  if (numbers.empty() || numbers.size() > most) return;
  if (sequence.final == 'J' && numbers[0] != absent && numbers[0] > 2) return;  // 3: what the user has scrolled by
  std::string words;
  for (std::size_t i = 0; i < numbers.size(); ++i)
    words += (i > 0 ? ";" : "") + (numbers[i] == absent ? std::string() : std::to_string(numbers[i]));
  out_ += fmt::format("\x1b[{}{}", words, sequence.final);
}

void TerminalFilter::mode(const ControlSequence& sequence) {
  for (const auto number : sequence.numbers(0)) {
    if (number == 7 || number == 25) out_ += fmt::format("\x1b[?{}{}", number, sequence.final);
    // The other screen is the player's own: whoever enters it or leaves it finds an empty one.
    if (number == 47 || number == 1047 || number == 1049) out_ += clear_screen;
  }
}

}  // namespace agentvm::cli
