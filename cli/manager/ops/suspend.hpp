#pragma once
// Stopping the vCPUs of a sandbox for a while. Its machine, memory and processes stay; connections into it are kept and
// go on afterwards.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// Uncommitted work is brought home first, where that works. A paused sandbox stays as it is. The result is its status,
/// with `rescued`.
Json suspend_sandbox(Core& core, CallContext& call, const Json& params);

/// The vCPUs run again, and the guest has the time of this moment. A running sandbox stays as it is. The result is its
/// status.
Json resume_sandbox(Core& core, CallContext& call, const Json& params);

/// Asks the guest to write what it holds for its disk: what a sudden end would take. A guest that does not is logged.
void write_back(Core& core, const SandboxName& name, Deadline deadline);

/// Stops the vCPUs whoever is busy with the sandbox; nothing when it does not run. Without its hold only the machine
/// stops, and what is recorded is left to `machine_paused`. Throws what the driver throws; then nothing has changed.
void stop_vcpus(Core& core, const SandboxName& name, const std::string& reason, const std::string& message);

/// A machine that never becomes ready would be paused for good: it is ended, and its start fails with `message`, which
/// is recorded. False when it is not starting (any more).
bool end_start(Core& core, const SandboxName& name, const std::string& message);

/// As `resume_sandbox`, for an operation that needs a running guest and has its hold: a paused sandbox runs when it
/// returns. Blocks for a minute at most. Throws when the machine is gone or does not answer; it is paused then.
SandboxRecord wake(Core& core, const SandboxRecord& record);

}  // namespace agentvm::manager
