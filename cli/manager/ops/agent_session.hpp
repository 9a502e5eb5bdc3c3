#pragma once
// The agent program of a running sandbox: set up at the start, started in the terminal session, looked at for `status`.

#include "cli/manager/ops/core.hpp"
#include "guest/agents/agents.hpp"

namespace agentvm::manager {

/// What the sandbox's record names; nothing for `no_agent`. Throws as `guest::find_agent` does.
std::optional<guest::AgentDefinition> agent_of(Core& core, const SandboxRecord& record);

/// Shows the layer to the guest, and writes command and settings. `variables` go into a file in the guest's memory that
/// the agent's command alone reads. Throws with the guest's words.
void set_up_agent(LiveSandbox& live, const guest::AgentDefinition& agent,
                  const std::map<std::string, std::string>& variables, Deadline deadline);

/// Lends it `lent` until the guest ends, and takes away the links of an earlier start. Throws with the guest's words.
void lend_credentials(LiveSandbox& live, const guest::AgentDefinition& agent, const std::vector<guest::AgentFile>& lent,
                      Deadline deadline);

struct TerminalSession {
  std::string name, folder;
};
/// Begins a terminal session with the agent in it, unless there is one. Throws with the guest's words.
void begin_session(LiveSandbox& live, const TerminalSession& session, const guest::AgentDefinition& agent,
                   const std::vector<std::string>& task, Deadline deadline);

/// {name, title, version, state, exit_code, since, since_seconds, worktrees}, null for `no_agent`. `state`: "working"
/// (its terminal changed within the last seconds), "waiting" (it did not), "ended", "gone" (its session is), or null
/// while that is not known. `worktrees`: [{branch, state, exit_code, since, since_seconds}] of those where one was
/// begun. Asks nobody; never throws.
Json agent_status(Core& core, const SandboxRecord& record);

}  // namespace agentvm::manager
