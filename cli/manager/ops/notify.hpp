#pragma once
// The user's own command (`notify`), run on the host when an agent wants a human.

#include "cli/manager/ops/core.hpp"

namespace agentvm::manager {

/// Soon, on the janitor, with what happened in AGENTVM_* variables: names of ours (a session's is letters, digits
/// and '-') and a word, nothing that a guest chose. Does nothing where `notify` is unset. A command that fails, or
/// takes longer than half a minute (it is killed), is named in the manager's log.
void notify_user(Core& core, const SandboxName& name, const std::string& session, const AgentWatch::Session& now);

}  // namespace agentvm::manager
