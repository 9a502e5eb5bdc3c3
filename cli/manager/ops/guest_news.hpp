#pragma once
// Following what a guest's agent tells.

#include <functional>
#include <stop_token>

#include "guest/control/control.hpp"

namespace agentvm::manager {

/// Calls `look`, which waits in the guest for news, again and again: until `stop`, or until the guest's agent is gone;
/// at most ten times a second, however fast a guest answers. `look` may throw: then it is called again after a pause,
/// short while the guest still boots. `what` is for the log.
void follow_news(const std::stop_token& stop, const guest::Control& control, const std::string& what,
                 const std::function<void()>& look);

}  // namespace agentvm::manager
