#pragma once
// The ends of a sandbox: stopped, or removed for good. Its work comes home before.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// `stop` {name, force, sync, timeout_seconds}: its status, with `rescued`. One that does not persist is removed.
Json stop_sandbox(Core& core, CallContext& call, const Json& params);

/// What `stop` ends with where the sandbox does not persist, for one whose guest powered itself off: its work comes
/// home, here what `stop` did not get, and it is removed. False, with a warning, where that fails: it stays. The caller
/// holds it; `rescued` grows.
bool remove_stopped(Core& core, CallContext& call, const SandboxRecord& record, std::vector<std::string>& rescued);

/// `destroy` {name, keep_disk}: `agentvm.destroy/1`. Throws and keeps the sandbox when a running guest's work cannot be
/// brought home.
Json destroy_sandbox(Core& core, CallContext& call, const Json& params);

}  // namespace agentvm::manager
