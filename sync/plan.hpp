#pragma once
// The branch rule: what may happen to the user's branch. Pure.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace agentvm::sync {

/// How two tips stand to each other.
enum class Relation {
  same,
  guest_ahead,  ///< the host's tip is part of the guest's history: a fast-forward
  host_ahead,   ///< the guest's tip is part of the host's history: nothing to take
  diverged,
};

/// What was seen on both sides.
struct Observation {
  std::string host_branch;                            ///< checked out; empty: detached
  std::string host_tip;                               ///< empty: unborn
  bool host_clean = true;                             ///< no staged and no unstaged change of a tracked file
  std::string host_operation;                         ///< "a merge", when one is in progress
  std::string lock;                                   ///< a lock file of git's that the move would meet
  std::string lock_holder;                            ///< the git that is at work there; empty: none
  std::vector<std::string> in_the_way;                ///< untracked files that the incoming commits would write over
  std::map<std::string, std::string> guest_branches;  ///< branch -> tip
  std::string guest_head;                             ///< the guest's checked-out branch; may be empty
  std::set<std::string> host_branches;                ///< local branches
  std::optional<Relation>
      relation;  ///< of host_tip and the guest's branch of the same name; absent when either does not exist
  /// Host_tip is something that the guest had on this branch before it rewrote it: the host has nothing of its own.
  bool rewritten = false;
  /// About the guest's checked-out branch, where the host has another one checked out.
  struct Other {
    bool news = false;                 ///< it has commits that no branch, remote branch or tag of the host has
    std::optional<Relation> relation;  ///< of the host's branch of that name; absent when it has none
    std::string checked_out_in;        ///< another work tree of the host that is on it
  } other;
  /// How the host's branch and the guest's stand where the decision is about one that neither has checked out.
  std::optional<Relation> elsewhere;
  bool by_the_way = false;  ///< nobody asked for that branch: it is told of, and nothing need be decided about it
};

enum class Action {
  none,             ///< nothing new for the user's branch
  fast_forward,     ///< move the checked-out branch and its tree
  follow,           ///< check out the branch that the guest is on: created where it is missing, else fast-forwarded
  refs_only,        ///< the commits are in refs/agentvm/...; the user's branch is another one
  refuse_dirty,     ///< exit 6
  refuse_diverged,  ///< exit 6
};

struct Decision {
  Action action = Action::none;
  std::string branch;                 ///< the guest branch it is about; empty when the guest has none
  std::string reason;                 ///< for people, one clause
  std::vector<std::string> commands;  ///< what helps, ready to paste
};

/// The branch a sync is about: the one asked for, else the host's checked-out branch when the guest has something for
/// it, else the guest's own HEAD. Empty when there is none. What `decide` says about it needs `host_clean`, `lock`
/// and `in_the_way` for this very branch.
std::string subject_branch(const Observation& seen, const std::optional<std::string>& asked);

/// Never more than a fast-forward of the branch of the same name, never over uncommitted work. The host follows the
/// guest to another branch where that has news; not away from a detached HEAD, and not for a branch that was `asked`
/// for and is not the guest's own.
/// `refs_changed`: whether the subject's mirror reference moved in this sync.
Decision decide(const Observation& seen, const std::string& sandbox, const std::optional<std::string>& asked,
                bool refs_changed);

}  // namespace agentvm::sync
