// Which tier of tests/README.md runs.
#pragma once
#include <cstdlib>
#include <string_view>

namespace agentvm::test {

/// Whether AGENTVM_TEST_TIER asks for the long rounds: every place of a sweep, sizes beyond the limits of memory.
inline bool full_tier() {
  const char* tier = std::getenv("AGENTVM_TEST_TIER");
  return tier != nullptr && std::string_view(tier) == "full";
}

}  // namespace agentvm::test
