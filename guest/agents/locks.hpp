#pragma once
// Versions that the user chose in place of the definitions' own: `agentvm agents update` and `pin`. They stand in a
// file of the user's, beside the configuration; no repository has a say. And what a registry of npm's says of a
// version. Pure: bytes in, bytes out.

#include <map>
#include <string>
#include <string_view>

#include "guest/agents/agents.hpp"

namespace agentvm::guest {

/// The name of that file, in the folder of the configuration file.
inline constexpr const char* agent_locks_file = "agents.lock.json";

/// Of an agent's first package, which is the program; others stay as the definition has them.
struct AgentLock {
  AgentPackage package;
  bool pinned = false;  ///< chosen by hand: it counts whatever else is newer
};
using AgentLocks = std::map<std::string, AgentLock>;  // by the agent's name

/// Throws `usage` naming `file` and what is wrong.
AgentLocks parse_agent_locks(std::string_view text, const std::string& file);
std::string agent_locks_text(const AgentLocks& locks);
/// Puts the lock's package in place of the definition's: a pinned one, and one that is newer than the definition's. One
/// of another package says nothing any more.
void apply_agent_lock(AgentDefinition& agent, const AgentLock& lock);

/// Below 0, 0 or above it, as `one` is older than, the same as or newer than `other`: by semantic versioning.
int compare_versions(std::string_view one, std::string_view other);

/// The address at which `registry` (a URL) tells of a version ("latest": the newest) of a package.
std::string manifest_url(const std::string& registry, const std::string& package, const std::string& version);
/// What it answered: version and SHA-512. Throws `operation_failed` for what is no such answer, or has no SHA-512.
AgentPackage parse_manifest(std::string_view text, const std::string& package);

}  // namespace agentvm::guest
