#pragma once
// `wip`: snapshots of uncommitted guest work, as the user sees and uses them. And what a destroy would lose.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

// All of them work on the user's repository alone, so they also serve a sandbox that is stopped or destroyed: {name}
// or, without it, the project of {cwd}; {wip} is the name of one snapshot.

/// `wip.list` {}: agentvm.wip/1.
Json list_wip(Core& core, const Json& params);
/// `wip.show` {wip}: its files and its patch, cleaned.
Json show_wip(Core& core, const Json& params);
/// `wip.apply` {wip, accept, env}.
Json apply_wip(Core& core, CallContext& call, const Json& params);
/// `wip.drop` {wip | all}.
Json drop_wip(Core& core, const Json& params);

/// Snapshots of this sandbox that the project has; 0 where the project cannot be asked.
std::size_t count_kept_wip(const SandboxRecord& record);
/// `losses` {name}: what destroying the sandbox would lose or leave behind, as far as it is known.
Json list_losses(Core& core, const Json& params);

}  // namespace agentvm::manager
