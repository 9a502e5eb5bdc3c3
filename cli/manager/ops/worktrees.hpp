#pragma once
// Work trees of a guest: a branch each, beside /workspace, with a terminal session of its own.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"
#include "sync/guest_work.hpp"

namespace agentvm::manager {

/// Where `agentvm worktree` puts them: below the clone, so that both workspace modes hold them.
inline constexpr const char* worktrees_folder = "/workspace/.worktrees";

/// `worktree.add` {name, branch, create, task}: the sandbox's agent begins in its session, with the words of `task`.
Json add_worktree(Core& core, CallContext& call, const Json& params);
/// `worktree.list` {name}.
Json list_worktrees(Core& core, const Json& params);
/// `worktree.remove` {name, branch, force}.
Json remove_worktree(Core& core, CallContext& call, const Json& params);

/// The folder in the guest where `branch` is checked out. Throws `not_found` naming the command that makes one.
std::string worktree_path(Core& core, const SandboxRecord& record, LiveSandbox& live, const std::string& branch,
                          Deadline deadline);
/// "<sandbox>-<branch>", as tmux takes it.
std::string worktree_session(const SandboxRecord& record, const std::string& branch);
/// Whose terminal session it is: empty for the sandbox's own, the branch of a known work tree, nothing for any other.
std::optional<std::string> session_branch(const SandboxRecord& record, const std::string& session);

/// Asks the guest for its work trees, the clone itself first; what the host has counts as not pending.
std::vector<sync::GuestWorktree> survey(const SandboxRecord& record, LiveSandbox& live, sync::Survey what,
                                        Deadline deadline);
/// Keeps what was seen (the first one is the clone itself and no work tree) in the record.
void remember_worktrees(Core& core, const SandboxRecord& record, const std::vector<sync::GuestWorktree>& seen);
/// For `status`: [{branch, path, session, pending_commits}]; `pending_commits` is null while nobody can be asked.
Json worktree_status(Core& core, const SandboxRecord& record);

}  // namespace agentvm::manager
