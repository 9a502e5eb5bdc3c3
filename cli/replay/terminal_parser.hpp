#pragma once
// What a program printed to a terminal, taken apart: text, controls, sequences. Strict and bounded: what is no whole,
// well-formed sequence reaches nobody, and no input makes it keep more than a few hundred bytes. Pure.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::cli {

/// "ESC [ prefix parameters intermediate final".
struct ControlSequence {
  char prefix = 0;         ///< one of "<=>?", or 0
  std::string parameters;  ///< digits, ';' and ':'; 64 bytes at most
  char intermediate = 0;   ///< 0x20 to 0x2f, or 0
  char final = 0;          ///< 0x40 to 0x7e

  /// The numbers between the semicolons, an absent one as `fallback`; empty where there is none or one has more than
  /// four digits or parts of its own (':').
  std::vector<unsigned> numbers(unsigned fallback) const;
};

/// Not thread-safe. Pieces may be cut anywhere.
class TerminalParser {
 public:
  struct Sink {
    virtual ~Sink() = default;
    /// One code point that a terminal prints, as UTF-8; U+FFFD for what is none, or hides or reorders text.
    virtual void text(std::string_view character) = 0;
    /// A control character below 0x20, but for ESC, CAN and SUB.
    virtual void control(char character) = 0;
    /// "ESC intermediate final"; `intermediate` may be 0.
    virtual void escape(char intermediate, char final) = 0;
    virtual void sequence(const ControlSequence& sequence) = 0;
  };
  explicit TerminalParser(Sink& sink) : sink_(sink) {}
  void feed(std::string_view bytes);

 private:
  enum class State { ground, escape, sequence, ignored_sequence, string, string_escape };
  void take(unsigned char byte);
  void take_ground(unsigned char byte);
  void take_escape(unsigned char byte);
  void take_sequence(unsigned char byte);
  void take_string(unsigned char byte);
  void begin_escape();
  void end_character();

  Sink& sink_;
  State state_ = State::ground;
  std::string character_;  // the bytes of one that is not whole yet
  unsigned missing_ = 0;   // of it
  char intermediate_ = 0;  // of an escape
  ControlSequence sequence_;
  std::size_t string_bytes_ = 0;
};

}  // namespace agentvm::cli
