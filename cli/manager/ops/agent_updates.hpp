#pragma once
// Newer agent programs, when the user asks for them: versions and digests from the registry into the user's lock file
// (guest/agents/locks.hpp), and the layers of them. What runs keeps its layer.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"
#include "guest/agents/agents.hpp"

namespace agentvm::manager {

/// What the registry last said is the newest version of an agent's program: {version, asked}; null where nobody asked.
Json newest_known(const Paths& paths, const guest::AgentDefinition& agent);
/// Asks it for `agent` now, and remembers the answer. Null for one without a package, or where it does not answer,
/// which is then a warning.
Json newest_now(CallContext& call, const Paths& paths, const guest::AgentDefinition& agent);

/// `agents.update` {names, dry_run, env}: {"agents": [{name, package, from, to, result, problem}], "dry_run",
/// "lock_file"}; `result`: "updated", "would-update", "up-to-date", "pinned", "no-package" or "failed". Without names
/// all of them; then only layers of which an older one is here are built.
/// `agents.pin` {name, version, env}; without a version the one of the definition counts again. The same answer, of
/// one.
void add_agent_update_operations(Service& service, const std::shared_ptr<Core>& core);

}  // namespace agentvm::manager
