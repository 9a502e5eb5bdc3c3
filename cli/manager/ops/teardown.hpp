#pragma once
// Taking a sandbox's machine down, as recorded steps: what is still to do stands in the record before it is done, so
// that a manager that was killed in the middle is followed by one that goes on.

#include "cli/manager/ops/core.hpp"

namespace agentvm::manager {

enum class Shutdown {
  graceful,  ///< the guest is asked to power off and gets its time
  forced,    ///< the machine ends at once
};

/// Ends machine, share and connections; idempotent: what is gone is done. The caller holds the sandbox. The record's
/// state must allow teardown steps (starting, stopping, stopped, failed, destroying); `grace` is how long a guest may
/// take to power off.
void tear_down(Core& core, const SandboxName& name, Shutdown how, milliseconds grace, Deadline deadline);

/// Deletes everything of a sandbox that has no machine any more, and records before that it is on its way out: whoever
/// finds it half removed removes the rest. What is worth keeping is kept by then. The caller holds it.
void erase(Core& core, const SandboxName& name, Deadline deadline);

}  // namespace agentvm::manager
