#pragma once
// A guest's answer about its references, checked: every byte of it is hostile. Pure.

#include "guest/control/control.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::guest {

/// Throws `operation_failed` for what the protocol does not allow.
GuestRefs parse_guest_refs(const Json& body);

}  // namespace agentvm::guest
