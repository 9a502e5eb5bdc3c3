#include "guest/control/console.hpp"

#include <charconv>

namespace agentvm::guest {

bool cpus_hang(std::string_view console) {
  constexpr std::string_view report = "soft lockup - CPU#", span = " stuck for ";
  constexpr unsigned long long hopeless_seconds = 45;
  for (auto at = console.find(report); at != std::string_view::npos; at = console.find(report)) {
    console.remove_prefix(at + report.size());
    const auto line = console.substr(0, console.find('\n'));
    const auto found = line.find(span);
    if (found == std::string_view::npos) continue;
    const auto number = line.substr(found + span.size());
    unsigned long long seconds = 0;
    std::from_chars(number.data(), number.data() + number.size(), seconds);
    if (seconds >= hopeless_seconds) return true;
  }
  return false;
}

}  // namespace agentvm::guest
