#pragma once
// Whether the files of a machine's state are as they were written, as far as that can be told without reading all of
// its memory.

#include "vmm/base/json.hpp"
#include "vmm/hypervisor.hpp"

namespace agentvm::manager {

/// {"devices_sha256", "memory_bytes", "memory_used_bytes"}
Json measure_state(const MachineState& state);

/// Memory that lost some of its blocks is damaged; that its file system stores it in fewer is not.
bool state_is_as_measured(const Json& then, const Json& now);

}  // namespace agentvm::manager
