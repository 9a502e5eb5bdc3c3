#pragma once
// What test and shim share, in one mapped file.

#include <atomic>

namespace agentvm::test {

struct FaultPlan {
  std::atomic<int> calls;  ///< made so far
  int at;                  ///< from 1; 0: count only
  int kill;                ///< else: no space from there on
};

}  // namespace agentvm::test
