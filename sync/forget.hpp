#pragma once
// What a sandbox that is gone leaves in the user's repository, and what of it nobody needs any more.

#include <string>
#include <vector>

#include "sync/host_git.hpp"

namespace agentvm::sync {

/// Removes those references below refs/agentvm/<sandbox>/ whose commits are all on branches, tags or remote branches of
/// the repository itself. Returns those that stay, because commits would be lost with them. Throws as
/// `open_host_repository` and `RefWriter` do. Any thread.
std::vector<std::string> forget_what_is_had(const fs::path& repository, const std::string& sandbox, Deadline deadline);

/// Whether the repository has a commit, or a file in its work tree, that none of its remotes' branches and no tag has.
bool has_work_of_its_own(const fs::path& repository, Deadline deadline);

}  // namespace agentvm::sync
