#pragma once
// The user's branches that the sandbox has otherwise, or not at all, and that a sync leaves alone.

#include <map>
#include <set>

#include "sync/host_git.hpp"
#include "sync/outcome.hpp"

namespace agentvm::sync {

/// Branch -> tip: the user's, the sandbox's, and those that the sandbox had when it was last looked at.
struct BranchTips {
  const std::map<std::string, std::string>&user, &guest, &guest_before;
};

/// Those of the user's branches, but for `passed_over`, of which the sandbox lacks something, sorted. Asks `git` (which
/// must see all tips) about the first 32 that both have at different commits; the others are `different`.
std::vector<ApartBranch> find_apart(const BranchTips& tips, const std::set<std::string>& passed_over,
                                    const HostGit& git, Deadline deadline);

}  // namespace agentvm::sync
