#pragma once
// What is known about sandboxes, as the JSON objects of the command contract.

#include "cli/manager/ops/core.hpp"

namespace agentvm::manager {

enum class Detail { brief, verbose };

/// `agentvm.status/1` for one sandbox. `verbose` adds folder, domain, endpoint files and processes. Reads the record
/// and asks no guest.
Json sandbox_status(Core& core, const SandboxRecord& record, Detail detail);
/// `agentvm.status/1` with `sandboxes`.
Json all_status(Core& core, Detail detail);
/// `agentvm.ports/1` of a running sandbox; `problem` says why nothing has a URL.
Json list_ports(Core& core, const SandboxRecord& record);
/// `agentvm.list/1`; `state` empty: all.
Json list_sandboxes(Core& core, const std::string& state);

}  // namespace agentvm::manager
