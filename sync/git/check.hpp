#pragma once
// What was received is judged before anyone else sees it: every new object by the rules, every branch by its
// connectivity.

#include <map>
#include <string>
#include <vector>

#include "sync/git/handles.hpp"
#include "sync/limits.hpp"
#include "sync/refs.hpp"
#include "vmm/base/clock.hpp"

namespace agentvm::git {

/// Checks every object of the pack whose index is at `index_path`, and that every id an object names is in the pack or
/// at the host (`odb` has both) with the right type: what lands is whole, even where no branch leads to it. A file that
/// the pack names .gitmodules or .gitattributes is judged also when the host has that content already under another
/// name; not so where the root of one of `host_tips` names it the same. Throws `operation_failed` naming the object and
/// the rule, or the cap.
void check_pack_objects(const std::string& index_path, git_odb* odb, const std::vector<git_oid>& host_tips,
                        const sync::SyncLimits& limits, Deadline deadline);

/// Moves branches and tags that cannot be proven complete (each commit, tree and file is in the pack or at the host,
/// with the right type), those that name far more paths than objects came (`new_objects`), and tags that lead to no
/// commit, into `rejected`. `odb` holds the pack and the host's objects; `host_tips` are commits whose history the host
/// has whole.
void check_connectivity(git_odb* odb, const std::vector<git_oid>& host_tips, std::uint64_t new_objects,
                        sync::BranchSelection& selection, Deadline deadline);

}  // namespace agentvm::git
