#include <charconv>

#include <fmt/format.h>

#include "guest/agents/agents.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::guest {
namespace {

constexpr std::uint64_t quiet_seconds = 5;  // agents draw while they work: a spinner, a clock, what they write

/// The number at the front of `text`; 0 when there is none that fits.
std::uint64_t leading_number(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string_view take_line(std::string_view& text) {
  const auto line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  return line;
}

}  // namespace

std::string state_script(const std::string& session) {
  return fmt::format(
      "cat .cache/agentvm-agent 2>/dev/null || echo; "
      "tmux display-message -p -t ={} '#{{window_activity}}' 2>/dev/null || echo; date +%s",
      shell_word(session + ":"));
}

AgentState read_state(std::string_view answer) {
  constexpr std::string_view ended = "ended ";
  const auto note = take_line(answer), activity = take_line(answer), now = take_line(answer);
  if (note.starts_with(ended)) return {"ended", static_cast<int>(leading_number(note.substr(ended.size())) & 0xFF)};
  if (activity.empty()) return {"gone", {}};
  const auto last = leading_number(activity), present = leading_number(now);
  return {present > last && present - last > quiet_seconds ? "waiting" : "working", {}};
}

}  // namespace agentvm::guest
