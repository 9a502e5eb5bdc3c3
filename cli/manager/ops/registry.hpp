#pragma once
// Asks the npm registry that this host is set to what a package's versions are. curl does the asking: it knows the
// host's proxies and authorities; its answer is bounded, in time and size, and checked (guest/agents/locks.hpp).

#include <stop_token>
#include <string>

#include "guest/agents/agents.hpp"

namespace agentvm::manager {

/// The registry's URL: the host's own (`host_npm_config`), else npm's.
std::string npm_registry();

/// `version`, or "latest". Of a package with a variant, the version with that ending. Within a minute or two; from any
/// thread. Throws `not_found` where the registry has no such version, `host_lacks` without curl, `operation_failed`
/// with what went wrong.
guest::AgentPackage ask_registry(const guest::AgentPackage& package, const std::string& version);

}  // namespace agentvm::manager
