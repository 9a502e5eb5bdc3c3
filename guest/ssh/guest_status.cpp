#include <array>
#include <string_view>
#include <utility>

#include "guest/streams.hpp"

namespace agentvm::guest {

int GuestStatus::shell_code() const {
  if (kind == Kind::exited) return code;
  if (kind == Kind::lost) return 125;
  static constexpr std::array<std::pair<std::string_view, int>, 21> numbers{
      {{"HUP", 1},   {"INT", 2},   {"QUIT", 3},  {"ILL", 4},   {"TRAP", 5},    {"ABRT", 6},  {"BUS", 7},
       {"FPE", 8},   {"KILL", 9},  {"USR1", 10}, {"SEGV", 11}, {"USR2", 12},   {"PIPE", 13}, {"ALRM", 14},
       {"TERM", 15}, {"STOP", 19}, {"XCPU", 24}, {"XFSZ", 25}, {"VTALRM", 26}, {"PROF", 27}, {"SYS", 31}}};
  for (const auto& [name, number] : numbers)
    if (signal == name) return 128 + number;
  return 128;
}

}  // namespace agentvm::guest
