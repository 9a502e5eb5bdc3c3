#pragma once
// How long each phase of a start took.

#include <string>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::manager {

/// Not thread-safe.
class Timeline {
 public:
  explicit Timeline(Clock& clock) : clock_(clock), last_(clock.steady()) {}
  /// Ends the phase that began with the mark before.
  void mark(std::string phase) {
    const auto now = clock_.steady();
    phases_.push_back({std::move(phase), std::chrono::duration_cast<milliseconds>(now - last_)});
    last_ = now;
  }
  bool has(const std::string& phase) const {
    for (const auto& entry : phases_)
      if (entry.name == phase) return true;
    return false;
  }
  /// [{"phase", "milliseconds"}], in order.
  Json to_json() const {
    auto list = Json::array();
    for (const auto& entry : phases_) list.push_back({{"phase", entry.name}, {"milliseconds", entry.span.count()}});
    return list;
  }

 private:
  struct Phase {
    std::string name;
    milliseconds span;
  };
  Clock& clock_;
  SteadyTime last_;
  std::vector<Phase> phases_;
};

}  // namespace agentvm::manager
