#pragma once
// Whether guests can run virtual machines of their own: tried in a guest, once for a host's boot, accelerator and
// image.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/ops/doctor_checks.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// Doctor's check `nested-l2`: starts a guest without a network, runs a tiny virtual machine in it, and removes it.
/// Tens of seconds. `data.ratio` is the speed inside to that of the guest.
Check try_nested(Core& core, CallContext& call, const std::map<std::string, std::string>& environment);

/// Soon, on the janitor, in a sandbox that was started: tries it unless that is known already. `status` tells.
void settle_nested(Core& core, const SandboxRecord& record);

/// {ran, reason, ratio, exit_nanoseconds} as it was tried for this host's boot and the record's accelerator and image;
/// null when it was not, and for a sandbox without `nested`.
Json nested_verdict(Core& core, const SandboxRecord& record);

}  // namespace agentvm::manager
