#pragma once
// What a host repository is and in which state it is, asked from git.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sync/host_git.hpp"

namespace agentvm::sync {

/// What git keeps in the folder of a work tree while something is unfinished there, and its name for people.
inline constexpr std::pair<const char*, const char*> unfinished_operations[] = {{"MERGE_HEAD", "a merge"},
                                                                                {"rebase-merge", "a rebase"},
                                                                                {"rebase-apply", "a rebase or am"},
                                                                                {"CHERRY_PICK_HEAD", "a cherry-pick"},
                                                                                {"REVERT_HEAD", "a revert"},
                                                                                {"BISECT_LOG", "a bisect"},
                                                                                {"sequencer", "a sequence of commits"}};

struct HostRef {
  std::string name;    ///< full
  std::string oid;     ///< of a tag object the object's own
  std::string commit;  ///< the same, or where the tag leads; empty: to none
};

struct HostRepository {
  fs::path worktree;                  ///< top level of the work tree
  fs::path git_dir;                   ///< of this work tree
  fs::path common_dir;                ///< shared by all work trees: objects and references
  std::vector<fs::path> object_dirs;  ///< objects, and its alternates, and theirs
  std::string head_branch;            ///< empty when detached
  std::string head;                   ///< commit id; empty when the branch is unborn
  std::string ref_format = "files";   ///< how references are kept: "files", "reftable"
  std::string operation;              ///< "a merge", "a rebase" ... in progress; else empty
  std::vector<HostRef> refs;          ///< all of them when it was opened, those of the newest commits first
};

/// Asks git about `path` (any folder of the work tree). Throws `not_found` when it is no repository, `operation_failed`
/// with the reason and the command that helps when it is bare, shallow, partial or does not use SHA-1.
HostRepository open_host_repository(const fs::path& path, Deadline deadline);

/// The object store and references of the repository with this .git folder (a bare one, a fresh clone); work tree and
/// HEAD stay empty, `worktree` is the folder itself. Throws as `open_host_repository` does.
HostRepository open_object_store(const fs::path& git_dir, Deadline deadline);

/// Those of `refs` that begin with `prefix`: full name -> object id.
std::map<std::string, std::string> refs_below(const std::vector<HostRef>& refs, std::string_view prefix);
/// As they are now: full name -> object id.
std::map<std::string, std::string> list_refs(const HostGit& git, const std::string& prefix, Deadline deadline);

}  // namespace agentvm::sync
