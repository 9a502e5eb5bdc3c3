#pragma once
// Suspending a sandbox to disk: its memory and the state of its devices are kept in files, and no machine is left. It
// goes on from there in another machine, also after a restart of the host.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// Throws `host_lacks` or `usage` where the sandbox cannot be saved: a shared workspace, a driver that cannot, a disk
/// that is short.
void check_savable(Core& core, const SandboxRecord& record);

/// Saves a running sandbox and ends its machine; uncommitted work has been brought home. The caller holds it. On an
/// error it runs on.
SandboxRecord save_to_disk(Core& core, CallContext& call, const SandboxRecord& record);

/// A saved sandbox goes on where it was; running when this returns. The caller holds it. On an error it is saved as
/// before and the next attempt begins anew; what was wrong is in the message. A machine that went on and then failed
/// is not saved any more: `failed`, with its disk as it is.
SandboxRecord restore_from_disk(Core& core, CallContext& call, const SandboxRecord& record);

/// Removes what is of no use: memory that the record does not say fits, and what an interrupted saving left.
void sweep_saved(Core& core, const SandboxRecord& record);

/// What the saved memory takes on the disk.
std::uint64_t saved_bytes(Core& core, const SandboxName& name);

}  // namespace agentvm::manager
