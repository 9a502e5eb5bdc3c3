#pragma once
// The user's branches that the sandbox has otherwise, or not at all, and that a sync leaves alone.

#include <functional>
#include <map>
#include <set>

#include "sync/host_git.hpp"
#include "sync/outcome.hpp"

namespace agentvm::sync {

/// Branch -> tip: the user's, the sandbox's, and those that the sandbox had when it was last looked at.
struct BranchTips {
  const std::map<std::string, std::string>&user, &guest, &guest_before;
};

/// What a merge of two commits would meet; nothing when that cannot be told.
using Forecast = std::function<std::optional<std::vector<std::string>>(const std::string&, const std::string&)>;

/// Those of the user's branches, but for `passed_over`, of which the sandbox lacks something, sorted. Asks `git` (which
/// must see all tips) about the first 32 that both have at different commits; the others are `different`. `forecast` is
/// asked for the first 8 diverged ones, with the user's tip and the sandbox's.
std::vector<ApartBranch> find_apart(const BranchTips& tips, const std::set<std::string>& passed_over,
                                    const HostGit& git, const Forecast& forecast, Deadline deadline);

}  // namespace agentvm::sync
