#pragma once
// Recordings of terminal sessions, for `logs --agent` and `replay`.

#include "cli/commands/command.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::cli {

CommandSpec replay_command();
/// The sandbox and, with --worktree, the session that a command means.
Json terminal_params(Invocation& run);

}  // namespace agentvm::cli
