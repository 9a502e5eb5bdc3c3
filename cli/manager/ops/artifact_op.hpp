#pragma once
// Build products: `sync --artifacts`.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// `artifacts` {name, globs, to, dry_run, accept, env}: `agentvm.artifacts/1`. Does not hold the sandbox: a stop ends
/// it.
Json bring_artifacts(Core& core, CallContext& call, const Json& params);

}  // namespace agentvm::manager
