#include "cli/replay/terminal_parser.hpp"

#include <algorithm>

#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

constexpr unsigned char bel = 0x07, can = 0x18, sub = 0x1a, esc = 0x1b, del = 0x7f;
constexpr std::size_t parameter_limit_bytes = 64;
/// A string (a title, an image) that nobody ends must not swallow the rest of a recording.
constexpr std::size_t string_limit_bytes = 64u << 10;
constexpr std::string_view replacement = "\xef\xbf\xbd";

bool between(unsigned char byte, unsigned char first, unsigned char last) {
  return first <= byte && byte <= last;
}

/// How many bytes follow a first byte of UTF-8; 0: it is none.
unsigned following(unsigned char lead) {
  if (between(lead, 0xc2, 0xdf)) return 1;
  if (between(lead, 0xe0, 0xef)) return 2;
  return between(lead, 0xf0, 0xf4) ? 3 : 0;
}

}  // namespace

std::vector<unsigned> ControlSequence::numbers(unsigned fallback) const {
  constexpr std::size_t most_digits = 4;
  std::vector<unsigned> result;
  for (std::size_t start = 0; start <= parameters.size();) {
    const auto end = std::min(parameters.find(';', start), parameters.size());
    const auto word = parameters.substr(start, end - start);
    if (word.size() > most_digits || word.find(':') != word.npos) return {};
    result.push_back(word.empty() ? fallback : static_cast<unsigned>(std::stoul(word)));
    start = end + 1;
  }
  return result;
}

void TerminalParser::feed(std::string_view bytes) {
  for (const char byte : bytes) take(static_cast<unsigned char>(byte));
}

void TerminalParser::begin_escape() {
  state_ = State::escape;
  intermediate_ = 0;
}

void TerminalParser::take(unsigned char byte) {
  if (state_ == State::string || state_ == State::string_escape) return take_string(byte);
  if (state_ == State::ground) return take_ground(byte);
  if (byte == esc) return begin_escape();
  if (byte == can || byte == sub) {
    state_ = State::ground;
    return;
  }
  if (byte < 0x20) return sink_.control(static_cast<char>(byte));  // terminals obey it there, too
  if (byte >= del) {
    state_ = State::ground;
    return take_ground(byte);
  }
  if (state_ == State::escape) return take_escape(byte);
  take_sequence(byte);
}

void TerminalParser::take_ground(unsigned char byte) {
  if (missing_ > 0) {
    if (between(byte, 0x80, 0xbf)) {
      character_ += static_cast<char>(byte);
      if (--missing_ == 0) end_character();
      return;
    }
    missing_ = 0;
    sink_.text(replacement);
  }
  if (byte == esc) return begin_escape();
  if (byte == can || byte == sub || byte == del) return;
  if (byte < 0x20) return sink_.control(static_cast<char>(byte));
  character_.assign(1, static_cast<char>(byte));
  if (byte < 0x80) return sink_.text(character_);
  missing_ = following(byte);
  if (missing_ == 0) sink_.text(replacement);
}

/// It has as many bytes as its first one says: is it one, and one that shows?
void TerminalParser::end_character() {
  const bool shows = clean_guest_text(character_) == character_;
  // The controls of 0x80 to 0x9f, as UTF-8, are sequences' beginnings to many terminals.
  sink_.text(shows ? std::string_view(character_) : replacement);
}

void TerminalParser::take_escape(unsigned char byte) {
  if (byte < 0x30) {
    // Of two intermediates nothing is known here: neither is a final of ours.
    intermediate_ = intermediate_ == 0 ? static_cast<char>(byte) : static_cast<char>(esc);
    return;
  }
  state_ = State::ground;
  if (intermediate_ != 0) return sink_.escape(intermediate_, static_cast<char>(byte));
  if (byte == '[') {
    sequence_ = {};
    state_ = State::sequence;
    return;
  }
  constexpr std::string_view strings = "]PX^_";  // OSC, DCS, SOS, PM, APC
  if (strings.find(static_cast<char>(byte)) == strings.npos) return sink_.escape(0, static_cast<char>(byte));
  string_bytes_ = 0;
  state_ = State::string;
}

void TerminalParser::take_sequence(unsigned char byte) {
  const auto character = static_cast<char>(byte);
  if (byte >= 0x40) {
    const bool whole = state_ == State::sequence;
    state_ = State::ground;
    sequence_.final = character;
    if (whole) sink_.sequence(sequence_);
    return;
  }
  if (state_ == State::ignored_sequence) return;
  if (byte < 0x30) {
    if (sequence_.intermediate != 0) state_ = State::ignored_sequence;
    sequence_.intermediate = character;
  } else if (byte >= '<') {
    if (!sequence_.parameters.empty() || sequence_.prefix != 0) state_ = State::ignored_sequence;
    sequence_.prefix = character;
  } else {
    if (sequence_.intermediate != 0 || sequence_.parameters.size() >= parameter_limit_bytes)
      state_ = State::ignored_sequence;
    else
      sequence_.parameters += character;
  }
  if (sequence_.intermediate != 0 && byte >= 0x30) state_ = State::ignored_sequence;
}

void TerminalParser::take_string(unsigned char byte) {
  if (state_ == State::string_escape) {
    begin_escape();
    if (byte == '\\')
      state_ = State::ground;
    else
      take(byte);
    return;
  }
  if (byte == esc)
    state_ = State::string_escape;
  else if (byte == bel || byte == can || byte == sub || ++string_bytes_ > string_limit_bytes)
    state_ = State::ground;
}

}  // namespace agentvm::cli
