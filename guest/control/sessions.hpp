#pragma once
// A guest's answer about its terminal sessions, checked: every byte of it is hostile. Pure.

#include "guest/control/control.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::guest {

/// Throws `operation_failed` for what the protocol does not allow.
GuestSessions parse_guest_sessions(const Json& body);

}  // namespace agentvm::guest
