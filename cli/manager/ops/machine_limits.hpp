#pragma once
// The limits that a machine runs under on its host, and who is paused when the host's disk runs out.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/ops/disk_guard.hpp"

namespace agentvm::manager {

/// Puts the processes of a machine that was just started under what this host offers. Never throws for what it lacks;
/// the record says which scope it has, or why none.
SandboxRecord limit_machine(Core& core, const SandboxRecord& record, Hypervisor& hypervisor);

/// For `status`: what is in force, read from the running processes where it can be; null values: not running.
Json limits_status(Core& core, const SandboxRecord& record);

/// How much stays free where the sandboxes are: `limits.disk_reserve` of the user's own file.
DiskReserve disk_reserve(Core& core);

/// Throws `host_lacks` when less is left than the reserve: a guest that is let go now would be paused at once.
void check_disk_reserve(Core& core, const std::string& what);

/// Whether the guard, or somebody else but the user, paused it and there is less room than the reserve: to resume it
/// would only fill the disk on.
bool must_stay_paused(Core& core, const SandboxRecord& record);

/// The guard of the state folder's file system.
DiskGuard::Work disk_guard_work(Core& core);

}  // namespace agentvm::manager
