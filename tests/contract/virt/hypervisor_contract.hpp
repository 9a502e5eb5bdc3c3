#pragma once
// One suite for everything that claims to be a Hypervisor. A program that links hypervisor_contract.cpp names its
// candidates; the suite runs on each, and asserts what it declares.

#include <condition_variable>
#include <mutex>
#include <set>

#include "tests/contract/virt/support.hpp"

namespace agentvm::test {

struct Candidate {
  std::string name;
  std::set<HypervisorCapability> declared;
  std::function<std::shared_ptr<Hypervisor>()> open;
  friend std::ostream& operator<<(std::ostream& out, const Candidate& candidate) { return out << candidate.name; }
};

/// The program's: whom the suite runs on.
std::vector<Candidate> contract_candidates();
/// The program's: a folder with the probe guest, for the machines of all candidates.
const fs::path& shared_folder();

/// Events as they came, with waiting.
class Recorder {
 public:
  void operator()(const Hypervisor::Event& event) {
    const std::lock_guard lock(mutex_);
    events_.emplace_back(event.domain, event.kind);
    changed_.notify_all();
  }
  bool saw(const std::string& domain, Hypervisor::Event::Kind kind) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] {
      return std::find(events_.begin(), events_.end(), std::pair(domain, kind)) != events_.end();
    });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<std::string, Hypervisor::Event::Kind>> events_;
};

}  // namespace agentvm::test
