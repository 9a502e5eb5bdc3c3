#pragma once
// What comes out of a sandbox for git itself (git-remote-agentvm), and the caps on everything that comes out.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"
#include "sync/limits.hpp"

namespace agentvm::manager {

/// `sync.limits.*` as the sandbox's project, the user's file and this environment make them.
sync::SyncLimits sync_limits(Core& core, const SandboxRecord& record,
                             const std::map<std::string, std::string>& environment = {});

/// `remote.list` {name, git_dir}: the guest's branches.
Json list_remote(Core& core, CallContext& call, const Json& params);
/// `remote.fetch` {name, git_dir}: checked objects into that repository.
Json fetch_remote(Core& core, CallContext& call, const Json& params);

}  // namespace agentvm::manager
