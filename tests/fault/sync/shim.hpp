#pragma once
// What test and shim share, in one mapped file.

#include <atomic>

namespace agentvm::test {

struct FaultPlan {
  std::atomic<int> calls;     ///< made so far
  std::atomic<int> confined;  ///< so many of them by agentvm's confined children
  int at;                     ///< from 1; 0: count only
  int kill;                   ///< else: no space from there on
  int spares_git;             ///< programs called git do not count and do not fail; the kill takes them along
  /// A process group that is to be killed by the test: the confined children may not, and wait for it.
  std::atomic<int> to_kill;
};

}  // namespace agentvm::test
