#pragma once
// The login that an agent program has in the user's home, lent to its guest.

#include <functional>

#include "guest/agents/agents.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::manager {

/// Those of the agent's credentials that are below `home`. Names it to `warn` when one cannot be lent (too large, no
/// file, not to be read, a NUL in it), or when there is none at all. Never throws for that.
std::vector<guest::AgentFile> read_credentials(const guest::AgentDefinition& agent, const fs::path& home,
                                               const std::function<void(const std::string&)>& warn);

}  // namespace agentvm::manager
