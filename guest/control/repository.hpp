#pragma once
// A guest's answers about the repository in its workspace, checked: every byte of them is hostile. Pure.

#include "guest/control/control.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::guest {

/// Nothing where the guest declines. Throws `operation_failed` for what the protocol does not allow.
std::optional<GuestReferences> parse_guest_references(const Json& body);
/// `asked`: the ids that may be answered. Throws as above.
GuestObjects parse_guest_objects(const Json& body, const std::vector<std::string>& asked);

}  // namespace agentvm::guest
