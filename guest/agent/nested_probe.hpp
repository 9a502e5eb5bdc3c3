#pragma once
// Whether a virtual machine runs inside this one, and how fast.

#include "vmm/base/json.hpp"

namespace agentvm::guest::agent {

/// {ran, reason, here_ns, inside_ns, exit_ns}: the nanoseconds that a counted loop takes here, and that the same loop
/// takes in a virtual machine of ours; and what one exit of it takes. `reason` is why it did not run. Waits a few
/// seconds for /dev/kvm, whose module may still load. May block for as long as KVM does: run it where it can be killed.
Json probe_nested();

}  // namespace agentvm::guest::agent
