#pragma once
// The trusted second step: checked objects and references enter the host's repository. Data at rest runs nothing.

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sync/host_repository.hpp"
#include "sync/verdict.hpp"

namespace agentvm::sync {

/// A guest branch or tag that moved, and where its tip is kept on the host.
struct RefChange {
  std::string branch;   ///< empty: it is a tag
  std::string ref;      ///< refs/agentvm/<sandbox>/<branch>
  std::string old_tip;  ///< empty: new
  std::string new_tip;
  std::string
      kept_as;  ///< where the old tip is kept when the guest rewrote its history or the name was needed; else empty
};

struct LandingPlan {
  std::vector<RefChange> changes;  ///< branches whose reference moves, sorted by branch
  std::vector<std::pair<std::string, std::string>>
      displaced;                  ///< {reference, tip}: names that stand in a new branch's way (a, for a/b)
  std::vector<std::string> gone;  ///< branches the guest no longer has: their references stay
};
/// Pure. `mirrored`: our references of this sandbox now, full name -> tip. `is_ancestor(old, new)`: whether old is part
/// of new's history. Rewritten and displaced tips go to refs/agentvm/<sandbox>/old/<stamp>/<branch>, those of tags to
/// .../old/<stamp>/tags/<tag>. A tag that the guest no longer has stays, too.
LandingPlan plan_landing(
    const std::string& sandbox, const std::map<std::string, std::string>& mirrored,
    const std::map<std::string, std::string>& guest_branches, const std::map<std::string, std::string>& guest_tags,
    const std::string& stamp,
    const std::function<bool(const std::string& old_tip, const std::string& new_tip)>& is_ancestor);

/// Moves pack-`name` from `quarantine_objects` into the host's object store: linked where that works, else copied;
/// index last, everything synced to the disk. A pack that is there already is left alone. Holds a .keep file until
/// destroyed, so that no gc takes the objects before a reference names them.
class LandedPack {
 public:
  LandedPack(const HostRepository& host, const fs::path& quarantine_objects, const std::string& name);
  ~LandedPack();
  LandedPack(const LandedPack&) = delete;
  LandedPack& operator=(const LandedPack&) = delete;
  /// Leaves the .keep file in place and names it: its remover is somebody else. Empty when another one keeps this pack.
  fs::path release() { return std::exchange(keep_, {}); }

 private:
  fs::path keep_;
};

/// Removes .keep files and drafts of syncs that were killed: ours by their first words, dead by their process.
void sweep_keeps(const HostRepository& host);

/// Makes the reference changes in transactions that check every old value. Killed between two of them, nothing is lost:
/// old tips are kept first, names are freed second, branches move last. Throws `operation_failed` when somebody else
/// moved a reference meanwhile.
void update_refs(const HostRepository& host, const HostGit& git, const std::string& sandbox, const LandingPlan& plan,
                 const std::string& stamp, Deadline deadline);

}  // namespace agentvm::sync
