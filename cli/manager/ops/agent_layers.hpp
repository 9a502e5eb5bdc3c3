#pragma once
// Layers: an agent program, installed once in a guest that is made for that, and shown read-only to every sandbox that
// uses it.
//
// A folder <data>/layers/<key>/ holds layer.ext4 and layer.json; it appears by one rename. The host never looks into
// the file: it came from a guest. One build at a time (a lock file); what an interrupted one left is swept by the next.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"
#include "guest/agents/agents.hpp"

namespace agentvm::manager {

inline constexpr const char* layer_file = "layer.ext4";

/// The folder of the user's own definitions, beside the configuration file.
fs::path own_agents(const Paths& paths);

/// Where the layer of `agent` is; nothing while it is not built.
std::optional<fs::path> find_layer(const Paths& paths, const guest::AgentDefinition& agent);
/// The disk image of the layer, built when there is none: minutes, most of it the download. `environment`: the
/// client's, as configuration reads it. Throws what a start throws, and `operation_failed` with the guest's words.
fs::path ensure_layer(Core& core, CallContext& call, const guest::AgentDefinition& agent,
                      const std::map<std::string, std::string>& environment);

/// The version of the program in a layer; empty where there is no such layer. Throws where it cannot be read.
std::string layer_version(const Paths& paths, const std::string& key);

/// Removes layers whose key is not in `in_use`; returns the bytes that were freed.
std::uint64_t prune_layers(const Paths& paths, const std::set<std::string>& in_use);

/// `agents.list` {newest}, `agents.build` {names}.
void add_agent_operations(Service& service, const std::shared_ptr<Core>& core);

}  // namespace agentvm::manager
