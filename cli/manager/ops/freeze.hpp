#pragma once
// A sandbox that has sent a decoy: its way out is shut, its vCPUs stop, its memory stays, and nothing but `agentvm
// resume` lets it go on. The record says so, so a new manager keeps it.

#include "cli/manager/ops/core.hpp"
#include "proxy/egress/egress.hpp"

namespace agentvm::manager {

/// Soon, on the janitor: records that the sandbox is frozen, then stops its vCPUs; one that is starting is ended. The
/// way out is shut already.
void freeze_for_decoy(Core& core, const egress::Decision& decision);

/// `wrong_state` with why a frozen one does not go on, and what lets it.
Error frozen_error(const SandboxRecord& record);

/// Throws `frozen_error` when it is frozen.
void check_not_frozen(const SandboxRecord& record);

/// Takes it back; whoever calls holds the sandbox. Its vCPUs stay as they are. Throws what the store throws.
SandboxRecord thaw(Core& core, const SandboxRecord& record);

/// Of a machine that runs at a manager's start although it is frozen: its vCPUs stop. Throws what the driver throws.
SandboxRecord keep_frozen(Core& core, const SandboxRecord& record);

}  // namespace agentvm::manager
