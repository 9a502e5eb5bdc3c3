#pragma once
// For what is named after the time.

#include "vmm/base/clock.hpp"

namespace agentvm::test {

class StoppedClock : public Clock {
 public:
  SteadyTime steady() override { return {}; }
  std::int64_t unix_seconds() override { return 1'790'000'000; }
  void sleep(milliseconds) override {}
};

}  // namespace agentvm::test
