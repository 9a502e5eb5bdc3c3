#pragma once
// What the children by one name cost while a test runs, sampled: the code under test waits for them, so no rusage of
// theirs reaches the test.

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <thread>

#include "vmm/base/clock.hpp"

namespace agentvm::test {

class ChildWatch {
 public:
  struct Cost {
    std::uint64_t private_bytes = 0;  ///< the most that one of them held
    milliseconds cpu{0};              ///< of all of them, user and system; what passed since the last sample is missing
    int seen = 0;
  };

  /// `program`: the file name of the executable.
  explicit ChildWatch(std::string program);
  ~ChildWatch();
  ChildWatch(const ChildWatch&) = delete;
  ChildWatch& operator=(const ChildWatch&) = delete;

  /// Ends the watch. The same again when it is asked again.
  Cost cost();

 private:
  void watch();
  void look_at(const std::string& pid);

  std::string name_;  // as the kernel cuts it
  std::atomic<bool> done_ = false;
  std::uint64_t private_bytes_ = 0;
  std::map<std::string, milliseconds> cpu_;
  std::thread thread_;  // alone uses the two above until it ends
};

}  // namespace agentvm::test
