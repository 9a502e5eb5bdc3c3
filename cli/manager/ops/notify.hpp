#pragma once
// The user's own command (`notify`), run on the host when an agent wants a human, or a connection waits for one.

#include "cli/manager/ops/core.hpp"
#include "proxy/egress/egress.hpp"

namespace agentvm::manager {

/// Soon, on the janitor, with what happened in AGENTVM_* variables: names of ours (a session's is letters, digits
/// and '-') and a word, nothing that a guest chose. Does nothing where `notify` is unset. A command that fails, or
/// takes longer than half a minute (it is killed), is named in the manager's log.
void notify_user(Core& core, const SandboxName& name, const std::string& session, const AgentWatch::Session& now);

/// Likewise, when a connection is held until the user decides (`egress.ask`); not when it waits no more by the time the
/// command's turn comes. The name is the guest's choice, of the letters of a DNS name alone, and stands in
/// AGENTVM_HOST; it is in AGENTVM_MESSAGE too.
void notify_question(Core& core, const egress::Decision& question);

/// Likewise, when a guest sent the placeholder of a secret where it does not belong.
void notify_placeholder(Core& core, const egress::Decision& decision);

/// Likewise, when it is frozen, because it has sent a decoy.
void notify_decoy(Core& core, const SandboxName& name);

}  // namespace agentvm::manager
