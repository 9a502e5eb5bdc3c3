#include "cli/manager/ops/worktrees.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/agent_session.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/rescue.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "sync/host_git.hpp"
#include "sync/plan.hpp"
#include "sync/refs.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds guest_limit{120'000};
constexpr milliseconds status_limit{8'000};
constexpr milliseconds rescue_limit{5 * 60'000};
constexpr std::size_t known_limit = 200;  ///< 41 bytes each, in the arguments of one command
constexpr int no_such_branch = 20, in_use = 21;

/// $1 branch, $2 its folder, $3 its session or nothing, $4 "create" or nothing. The folder is kept out of `git status`
/// by the clone's own exclude file, which is not committed.
constexpr const char* add_script = R"sh(
git() { LC_ALL=C command git "$@"; }  # not for what the session starts
cd /workspace || exit 1
exclude=$(git rev-parse --git-path info/exclude) && mkdir -p "$(dirname "$exclude")" || exit 1
grep -qxF '/.worktrees/' "$exclude" 2>/dev/null || printf '/.worktrees/\n' >>"$exclude" || exit 1
git worktree prune
[ ! -e "$2" ] || exit 21
if git show-ref -q --verify "refs/heads/$1"; then
  git worktree add -q "$2" "$1" || exit 21
elif remote=$(git for-each-ref --format='%(refname)' "refs/remotes/*/$1") && [ -n "$remote" ] && [ "$(echo "$remote" | wc -l)" = 1 ]; then
  git worktree add -q --track -b "$1" "$2" "$remote" || exit 1
elif [ "$4" = create ]; then
  git worktree add -q -b "$1" "$2" || exit 1
else
  exit 20
fi
[ -z "$3" ] || ! command -v tmux >/dev/null || tmux -u new-session -d -s "$3" -c "$2" 2>/dev/null
exit 0
)sh";

/// $1 the folder, $2 the session, $3 "force" or nothing. Without force git itself refuses once more what is not clean,
/// and then the session goes on.
constexpr const char* remove_script = R"sh(
cd /workspace || exit 1
end_session() { tmux kill-session -t "=$1" 2>/dev/null; }
if [ "$3" = force ]; then
  end_session "$2"
  git worktree remove --force --force "$1" || exit 1
else
  git worktree remove "$1" || exit 1
  end_session "$2"
fi
exit 0
)sh";

std::string branch_param(const Json& params) {
  auto branch = require<std::string>(params, "branch");
  const auto full = std::string(sync::branch_prefix) + branch;
  if (const auto problem = sync::refname_problem(full))
    throw Error(ErrorCode::usage, fmt::format("'{}' cannot be a branch: it {}", clean_guest_text(branch), *problem));
  if (sync::is_reserved_branch(branch))
    throw Error(ErrorCode::usage,
                fmt::format("commits on '{}' could not come back: agentvm keeps that name for itself", branch));
  return branch;
}

std::string added_path(const std::string& branch) {
  return fmt::format("{}/{}", worktrees_folder, branch_label(branch));
}

/// Commits that the host has: what was fetched of this sandbox first, then the user's branches.
std::vector<std::string> known_commits(const SandboxRecord& record, Deadline deadline) {
  const sync::HostGit git(record.project);
  std::vector<std::string> known;
  for (const auto& prefix : {sync::mirror_ref(record.name.str(), ""), std::string(sync::branch_prefix)})
    for (const auto& line :
         sync::split_lines(git.output({"for-each-ref", "--sort=-committerdate",
                                       fmt::format("--count={}", known_limit / 2), "--format=%(objectname)", prefix},
                                      deadline)))
      if (sync::is_oid(line)) known.push_back(line);
  return known;
}

Json to_json(const SandboxRecord& record, const std::string& branch, const std::string& path) {
  return {{"branch", clean_guest_text(branch)},
          {"path", clean_guest_text(path)},
          {"session", branch.empty() ? Json(nullptr) : Json(worktree_session(record, branch))},
          {"pending_commits", nullptr}};
}

Json to_json(const SandboxRecord& record, const sync::GuestWorktree& worktree) {
  auto json = to_json(record, worktree.branch, worktree.path);
  json["pending_commits"] = worktree.pending;
  json["tip"] = worktree.tip;
  return json;
}

[[noreturn]] void no_worktree(const SandboxRecord& record, const std::string& branch) {
  throw Error(ErrorCode::not_found,
              fmt::format("'{}' has no work tree of '{}'", record.name.str(), clean_guest_text(branch)),
              fmt::format("agentvm worktree add {}", shell_word(branch)));
}

const sync::GuestWorktree& find(const SandboxRecord& record, const std::vector<sync::GuestWorktree>& seen,
                                const std::string& branch) {
  for (std::size_t i = 1; i < seen.size(); ++i)
    if (seen[i].branch == branch) return seen[i];
  no_worktree(record, branch);
}

void refuse_losses(const SandboxRecord& record, const sync::GuestWorktree& worktree) {
  if (worktree.pending == 0 && worktree.changed == 0) return;
  const auto branch = shell_word(worktree.branch), name = record.name.str();
  std::string what;
  if (worktree.pending > 0)
    what = fmt::format("{} commit{} that your host does not have", worktree.pending, worktree.pending == 1 ? "" : "s");
  if (worktree.changed > 0)
    what += fmt::format("{}uncommitted changes in {} file{}", what.empty() ? "" : " and ", worktree.changed,
                        worktree.changed == 1 ? "" : "s");
  throw Error(ErrorCode::decision_needed,
              fmt::format("the work tree of '{}' has {}", clean_guest_text(worktree.branch), what),
              worktree.pending > 0 && worktree.changed == 0
                  ? fmt::format("agentvm sync {} --branch {}", name, branch)
                  : fmt::format("agentvm worktree remove {} {} --force: what is in it is kept on the host first",
                                branch, name));
}

}  // namespace

std::vector<sync::GuestWorktree> survey(const SandboxRecord& record, LiveSandbox& live, sync::Survey what,
                                        Deadline deadline) {
  const auto session = live.session(Session::control, deadline);
  return sync::survey_worktrees(*session, "/workspace", known_commits(record, deadline), what, deadline);
}

std::string worktree_session(const SandboxRecord& record, const std::string& branch) {
  return record.name.str() + "-" + branch_label(branch);
}

std::optional<std::string> session_branch(const SandboxRecord& record, const std::string& session) {
  if (session == session_name(record)) return "";
  for (const auto& worktree : record.worktrees)
    if (!worktree.branch.empty() && session == worktree_session(record, worktree.branch)) return worktree.branch;
  return std::nullopt;
}

void remember_worktrees(Core& core, const SandboxRecord& record, const std::vector<sync::GuestWorktree>& seen) {
  std::vector<WorktreeRecord> found;
  for (std::size_t i = 1; i < seen.size(); ++i) found.push_back({seen[i].branch, seen[i].path});
  if (const auto known = core.store().find(record.name); !known || known->worktrees == found) return;
  core.front().show_worktrees(core.store().update(record.name, [&](SandboxRecord& r) { r.worktrees = found; }));
}

std::string worktree_path(Core& core, const SandboxRecord& record, LiveSandbox& live, const std::string& branch,
                          Deadline deadline) {
  for (const auto& known : record.worktrees)  // saves a question; one that has gone fails where it is entered
    if (known.branch == branch) return known.path;
  const auto seen = survey(record, live, sync::Survey::commits, deadline);
  remember_worktrees(core, record, seen);
  return find(record, seen, branch).path;
}

Json worktree_status(Core& core, const SandboxRecord& record) {
  auto list = Json::array();
  if (record.worktrees.empty()) return list;
  const auto live = record.state == SandboxState::running ? core.live(record.name) : nullptr;
  if (live && live->any_session_if_alive()) {
    try {
      const auto seen = survey(record, *live, sync::Survey::commits, Deadline::after(status_limit));
      for (std::size_t i = 1; i < seen.size(); ++i) list.push_back(to_json(record, seen[i]));
      return list;
    } catch (const Error& error) {
      log::info("worktree", "{}: {}", record.name.str(), error.what());  // a guest that hangs must not hide its status
    }
  }
  for (const auto& worktree : record.worktrees) list.push_back(to_json(record, worktree.branch, worktree.path));
  return list;
}

Json add_worktree(Core& core, CallContext& call, const Json& params) {
  const auto branch = branch_param(params);
  const auto [record, live] = running_sandbox(core, params);
  if (branch == record.branch)
    throw Error(ErrorCode::wrong_state, fmt::format("'{}' is the branch of /workspace itself", branch),
                "agentvm attach " + record.name.str());
  const auto deadline = Deadline::after(guest_limit);
  const auto agent = agent_of(core, record);
  const auto task = value_or<std::vector<std::string>>(params, "task", {});
  if (!agent && !task.empty())
    throw Error(ErrorCode::usage, fmt::format("'{}' has no agent that could be given a task", record.name.str()),
                "agentvm start --agent NAME");
  const auto path = added_path(branch), name = worktree_session(record, branch);
  report(call.progress_function(), "worktree", "checking out " + branch);
  const auto session = live->session(Session::control, deadline);
  const auto answer = sync::run_in_guest(*session,
                                         {"sh", "-c", add_script, "sh", branch, path, agent ? "" : name,
                                          value_or<bool>(params, "create", false) ? "create" : ""},
                                         deadline);
  const auto words = clean_guest_text(answer.err, Newlines::escape, 300);
  if (answer.code == no_such_branch)
    throw Error(ErrorCode::not_found, fmt::format("the sandbox '{}' has no branch '{}'", record.name.str(), branch),
                fmt::format("agentvm worktree add {} --create", shell_word(branch)));
  if (answer.code == in_use)
    throw Error(ErrorCode::wrong_state,
                fmt::format("'{}' is checked out already{}", branch, words.empty() ? "" : ": " + words),
                "agentvm worktree list " + record.name.str());
  if (answer.code != 0)
    throw Error(ErrorCode::operation_failed, fmt::format("the work tree of '{}' was not made: {}", branch, words));
  const auto seen = survey(record, *live, sync::Survey::commits, deadline);
  remember_worktrees(core, record, seen);
  auto result = to_json(record, find(record, seen, branch));
  if (agent) begin_session(*live, {name, path}, *agent, task, deadline);
  result["schema"] = "agentvm.worktree-add/1";
  result["name"] = record.name.str();
  return result;
}

Json list_worktrees(Core& core, const Json& params) {
  const auto [record, live] = running_sandbox(core, params);
  const auto seen = survey(record, *live, sync::Survey::with_changes, Deadline::after(guest_limit));
  remember_worktrees(core, record, seen);
  auto list = Json::array();
  for (std::size_t i = 1; i < seen.size(); ++i) {
    list.push_back(to_json(record, seen[i]));
    list.back()["uncommitted_files"] = seen[i].changed;
  }
  return {{"schema", "agentvm.worktree/1"}, {"name", record.name.str()}, {"worktrees", list}};
}

Json remove_worktree(Core& core, CallContext& call, const Json& params) {
  const auto branch = branch_param(params);
  const bool force = value_or<bool>(params, "force", false);
  const auto [record, live] = running_sandbox(core, params);
  const auto deadline = Deadline::after(guest_limit);
  const auto worktree = find(record, survey(record, *live, sync::Survey::with_changes, deadline), branch);
  Rescued rescued;
  if (!force) {
    refuse_losses(record, worktree);
  } else if (worktree.pending > 0 || worktree.changed > 0) {
    report(call.progress_function(), "rescue", "bringing work home that is only in the guest");
    rescued = rescue_work(core, record, Deadline::after(rescue_limit));
    if (!rescued.warnings.empty())
      throw Error(ErrorCode::operation_failed,
                  "the work tree stays, because not all of it could be kept: " + rescued.warnings.front());
  }
  const auto session = live->session(Session::control, deadline);
  const auto answer = sync::run_in_guest(
      *session,
      {"sh", "-c", remove_script, "sh", worktree.path, worktree_session(record, branch), force ? "force" : ""},
      Deadline::after(guest_limit));
  if (answer.code != 0)
    throw Error(force ? ErrorCode::operation_failed : ErrorCode::decision_needed,
                fmt::format("the work tree of '{}' was not removed: {}", clean_guest_text(branch),
                            clean_guest_text(answer.err, Newlines::escape, 300)),
                fmt::format("agentvm worktree remove {} --force", shell_word(branch)));
  remember_worktrees(core, record, survey(record, *live, sync::Survey::commits, Deadline::after(guest_limit)));
  return {{"schema", "agentvm.worktree-remove/1"},
          {"name", record.name.str()},
          {"branch", clean_guest_text(branch)},
          {"path", clean_guest_text(worktree.path)},
          {"rescued", rescued.refs}};
}

}  // namespace agentvm::manager
