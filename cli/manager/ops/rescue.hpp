#pragma once
// What is only in a guest, brought to the host before it could be lost.

#include "cli/manager/ops/core.hpp"

namespace agentvm::manager {

/// Lands the guest's branches in refs/agentvm/<sandbox>/* of the project, and its uncommitted work (staged, changed,
/// untracked but not ignored) as a commit in refs/agentvm/<sandbox>/rescue/<UTC time>. The user's branches and work
/// tree are not touched, nor the guest's index and files. Returns the references that were made or moved. Throws when
/// the guest or the project cannot be reached.
std::vector<std::string> rescue_work(Core& core, const SandboxRecord& record, Deadline deadline);

}  // namespace agentvm::manager
