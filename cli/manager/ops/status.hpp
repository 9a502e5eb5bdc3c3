#pragma once
// What is known about sandboxes, as the JSON objects of the command contract.

#include "cli/manager/ops/core.hpp"

namespace agentvm::manager {

enum class Detail { brief, verbose };

/// What a guest's agent has to say that it is there, in a quick lane: `Lane::quick` gives a second.
inline constexpr milliseconds guest_answer_limit{1'000};

/// `agentvm.status/1` for one sandbox. `verbose` adds folder, domain, endpoint files and processes. Reads the record,
/// and asks the guest's agent for nothing but a sign of life, until `asking`.
Json sandbox_status(Core& core, const SandboxRecord& record, Detail detail,
                    Deadline asking = Deadline::after(guest_answer_limit));
/// `agentvm.status/1` with `sandboxes`. All of the guests have that second together.
Json all_status(Core& core, Detail detail);
/// `agentvm.ports/1` of a running sandbox; `problem` says why nothing has a URL.
Json list_ports(Core& core, const SandboxRecord& record);
/// `agentvm.list/1`; `state` empty: all.
Json list_sandboxes(Core& core, const std::string& state);

}  // namespace agentvm::manager
