#pragma once
// What the virtual machines within running sandboxes take, and whether one was ended for it.

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "cli/manager/ops/guest_news.hpp"
#include "guest/control/control.hpp"
#include "vmm/base/names.hpp"

namespace agentvm::manager {

/// Thread-safe. What it knows is what the guest says of itself.
class NestedWatch {
 public:
  /// Follows the sandbox's guest until `unwatch`, in place of what was followed under this name.
  void watch(const SandboxName& name, std::shared_ptr<guest::Control> control);
  /// What was known is forgotten.
  void unwatch(const SandboxName& name);
  /// Nothing while the guest has told nothing.
  std::optional<guest::GuestNested> state(const SandboxName& name) const;
  void stop() { watches_.stop(); }

 private:
  void follow(const std::stop_token& stop, const SandboxName& name, guest::Control& control);

  mutable std::mutex mutex_;  // guards the map
  std::map<std::string, guest::GuestNested> states_;
  Followers watches_;  // last: they use all of the above
};

}  // namespace agentvm::manager
