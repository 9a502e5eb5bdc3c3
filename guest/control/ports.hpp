#pragma once
// A guest's answer about its ports, checked: every byte of it is hostile. Pure.

#include "guest/control/control.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::guest {

/// Throws `operation_failed` for what the protocol does not allow.
GuestPorts parse_guest_ports(const Json& body);

}  // namespace agentvm::guest
