#pragma once
// What the terminals of a sandbox's agents show: asked for while it runs, and kept on the host when it stops.

#include "cli/manager/ops/core.hpp"

namespace agentvm::manager {

/// `logs.agent` {name, worktree}: {"session", "text", "live"}; `text` is of the last run where the sandbox does not
/// run, cleaned, 1 MiB of its end at most. Throws `not_found` where there is no such terminal.
Json agent_log(Core& core, const Json& params);

/// Of a running sandbox with an agent, before it stops: each session's text, for later. Best effort, within seconds.
void keep_agent_logs(Core& core, const SandboxRecord& record);

}  // namespace agentvm::manager
