#pragma once
// Whether a virtual machine runs inside this one, and how fast.

#include "vmm/base/json.hpp"

namespace agentvm::guest::agent {

/// {ran, reason, here_ns, inside_ns, exit_ns}: the nanoseconds that a turn of a counted loop takes, here and in a
/// virtual machine of ours, times a million; and what one exit takes. `reason` is why it did not run. Waits a few
/// seconds for /dev/kvm, whose module may still load. May block for as long as KVM does: run it where it can be killed.
Json probe_nested();

}  // namespace agentvm::guest::agent
