// libFuzzer entry for what a guest printed, on its way to a terminal of the host: whatever comes, what goes on is text
// and the sequences that ADR 0028 names, however the input was cut; and as text for a log it has no control at all.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "cli/replay/recording.hpp"
#include "cli/replay/terminal_filter.hpp"
#include "cli/replay/terminal_text.hpp"
#include "vmm/base/text.hpp"

namespace {

using namespace agentvm;
using namespace agentvm::cli;

void demand(bool holds) {
  if (!holds) std::abort();
}

/// Takes one sequence off `rest`, which begins after its ESC; a judge of its own, by the letters alone.
void demand_allowed(std::string_view& rest) {
  demand(!rest.empty());
  const char kind = rest[0];
  rest.remove_prefix(1);
  if (kind == '(') {
    demand(!rest.empty() && (rest[0] == '0' || rest[0] == 'B'));
    return rest.remove_prefix(1);
  }
  if (kind != '[') return demand(std::string_view("78DEM").find(kind) != std::string_view::npos);
  const bool mode = rest.starts_with('?');
  if (mode) rest.remove_prefix(1);
  const auto end = rest.find_first_not_of("0123456789;:");
  demand(end != rest.npos && end <= 64);
  const auto numbers = rest.substr(0, end);
  const char final = rest[end];
  rest.remove_prefix(end + 1);
  if (mode) return demand((numbers == "7" || numbers == "25") && (final == 'h' || final == 'l'));
  demand(final == 'm' || numbers.find(':') == numbers.npos);
  demand(std::string_view("ABCDEFGHIJKLMPSTXZ@`abdefrmsu").find(final) != std::string_view::npos);
  if (final == 'J') demand(numbers.find('3') == numbers.npos);
  if (final == 's' || final == 'u') demand(numbers.empty());
}

void demand_allowed_text(std::string_view shown) {
  while (!shown.empty()) {
    const char byte = shown[0];
    if (byte == '\x1b') {
      shown.remove_prefix(1);
      demand_allowed(shown);
      continue;
    }
    demand(static_cast<unsigned char>(byte) >= 0x20 || byte == '\n' || byte == '\r' || byte == '\t' || byte == '\b');
    demand(byte != 0x7f);
    std::size_t end = 1;
    while (end < shown.size() && (static_cast<unsigned char>(shown[end]) & 0xc0) == 0x80) ++end;
    const auto character = shown.substr(0, end);
    if (static_cast<unsigned char>(byte) >= 0x80) demand(clean_guest_text(character) == character);
    shown.remove_prefix(end);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto shown = TerminalFilter().feed(input);
  demand_allowed_text(shown);
  TerminalFilter filter, again;
  std::string pieces;
  for (const char byte : input) pieces += filter.feed({&byte, 1});
  demand(pieces == shown);
  demand(again.feed(shown) == shown);  // what was let through is whole, and is let through again
  TerminalText text;
  const auto lines = text.feed(input) + text.rest();
  demand(clean_guest_text(lines, Newlines::keep, 20 * lines.size() + 1) == lines);
  Recording recording;
  add_segment(recording, 0, input);
  double before = 0;
  for (const auto& event : recording.events) {
    demand(event.at >= before && (event.data.empty() == (event.columns > 0)));
    before = event.at;
  }
  return 0;
}
