// Seeding. Flow: ask git what the user has -> empty clone -> every branch, tag and remote-tracking reference through
// upload-pack (a copy, so that no object file is shared with the user's repository: the guest can write all of the
// clone) -> HEAD -> staged tree -> unstaged and untracked files on top -> configuration -> owner. Until it returns
// nothing in the folder is of use, and a killed seeding leaves nothing elsewhere: the private index and objects live
// below the clone's own .git.
#include "sync/workspace.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sync/refs.hpp"
#include "sync/seed/clone_config.hpp"
#include "sync/seed/dirty_state.hpp"
#include "sync/seed/tree_writer.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr const char* seed_ref = "refs/agentvm-seed/head";

/// Where the clone's HEAD is to be.
struct StartingPoint {
  std::string branch;         ///< empty: detached
  std::string tip;            ///< commit; empty: unborn
  bool new_branch = false;    ///< the repository has no branch of that name
  std::string upstream;       ///< the remote-tracking reference it was made from
  bool carries_dirty = true;  ///< the user's uncommitted state belongs to this commit
};

StartingPoint starting_point(const SeedRequest& request, const HostRepository& host, std::vector<std::string>& warnings,
                             Deadline deadline) {
  const HostGit git(host.worktree);
  if (!request.branch || *request.branch == host.head_branch) {
    if (is_reserved_branch(host.head_branch))
      warnings.push_back(fmt::format(
          "commits on '{}' cannot come back: agentvm keeps that name for itself; use --branch", host.head_branch));
    return {host.head_branch, host.head, false, "", true};
  }
  const auto& branch = *request.branch;
  const auto full = std::string(branch_prefix) + branch;
  if (const auto problem = refname_problem(full))
    throw Error(ErrorCode::usage, fmt::format("'{}' cannot be a branch: it {}", clean_guest_text(branch), *problem));
  if (is_reserved_branch(branch))
    throw Error(ErrorCode::usage,
                fmt::format("'{}' cannot be the sandbox's branch: agentvm keeps the name for itself", branch));
  StartingPoint start{branch, "", false, "", false};
  if (const auto tip = git.try_line({"rev-parse", "-q", "--verify", full + "^{commit}"}, deadline)) {
    start.tip = *tip;
  } else {
    start.new_branch = true;
    std::vector<std::string> upstreams;
    for (const auto& [ref, oid] : list_refs(git, "refs/remotes/", deadline)) {
      const auto slash = ref.find('/', std::string("refs/remotes/").size());
      if (slash != std::string::npos && ref.substr(slash + 1) == branch) upstreams.push_back(ref);
    }
    if (upstreams.size() == 1) start.upstream = upstreams.front();
    start.tip = start.upstream.empty() ? host.head : git.line({"rev-parse", start.upstream + "^{commit}"}, deadline);
  }
  start.carries_dirty = start.tip == host.head;
  return start;
}

void prepare_target(const fs::path& target) {
  std::error_code problem;
  fs::create_directory(target, problem);
  if (problem || !fs::is_directory(fs::symlink_status(target)))
    throw Error(ErrorCode::operation_failed,
                fmt::format("{} cannot be made a folder: {}", target.string(), problem.message()));
  if (!fs::is_empty(target))
    throw Error(ErrorCode::wrong_state, fmt::format("{} is not empty", target.string()),
                fmt::format("ls -la {}", target.string()));
}

void fetch_everything(const HostRepository& host, const HostGit& clone, Deadline deadline) {
  std::vector<std::string> args = {
      "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-head-ok", "--no-recurse-submodules",
      "--no-auto-maintenance",
      // the user's own configuration counts on their side (safe.directory), not on the clone's
      "--upload-pack=env -u GIT_CONFIG_GLOBAL -u GIT_CONFIG_NOSYSTEM git-upload-pack", host.git_dir.string(),
      "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+refs/remotes/*:refs/remotes/*"};
  if (host.head_branch.empty() && !host.head.empty()) args.push_back(fmt::format("+HEAD:{}", seed_ref));
  clone.output(args, deadline);
}

void set_head(const StartingPoint& start, const HostGit& clone, Deadline deadline) {
  if (start.branch.empty()) {
    clone.output({"update-ref", "--no-deref", "HEAD", start.tip}, deadline);
    clone.run({"update-ref", "-d", seed_ref}, deadline);
    return;
  }
  const auto full = std::string(branch_prefix) + start.branch;
  if (start.new_branch && !start.tip.empty()) clone.output({"update-ref", full, start.tip, ""}, deadline);
  clone.output({"symbolic-ref", "HEAD", full}, deadline);
}

/// refs/remotes/origin/HEAD comes over the wire as a plain id; it is a link at the user's and must stay one.
void restore_symbolic_refs(const HostGit& source, const HostGit& clone, Deadline deadline) {
  for (const auto& line :
       split_lines(source.output({"for-each-ref", "--format=%(refname) %(symref)", "refs/remotes/"}, deadline))) {
    const auto space = line.find(' ');
    if (space == std::string::npos || space + 1 == line.size()) continue;
    const auto name = line.substr(0, space), to = line.substr(space + 1);
    if (!clone.succeeds({"rev-parse", "-q", "--verify", to}, deadline)) continue;
    clone.run({"update-ref", "-d", "--no-deref", name}, deadline);
    clone.output({"symbolic-ref", name, to}, deadline);
  }
}

void write_config(const SeedRequest& request, const HostRepository& host, const StartingPoint& start,
                  const fs::path& target, Deadline deadline) {
  auto text = read_file(target / ".git/config") + copied_config(HostGit(host.worktree), deadline);
  if (!start.upstream.empty()) {
    const auto rest = start.upstream.substr(std::string("refs/remotes/").size());
    text += config_section("branch", start.branch) + config_setting("remote", rest.substr(0, rest.find('/'))) +
            config_setting("merge", std::string(branch_prefix) + start.branch);
  }
  if (request.identity)
    text +=
        "[user]\n" + config_setting("name", request.identity->name) + config_setting("email", request.identity->email);
  write_file_atomic(target / ".git/config", text, 0644);
  if (const auto exclude = read_file_if_exists(host.common_dir / "info/exclude")) {
    std::error_code ignored;
    fs::create_directory(target / ".git/info", ignored);
    write_file_atomic(target / ".git/info/exclude", *exclude, 0644);
  }
}

void add_content_warnings(const fs::path& target, const HostRepository& host, std::vector<std::string>& warnings,
                          Deadline deadline) {
  if (fs::exists(target / ".gitmodules"))
    warnings.emplace_back("submodules come without their content; run 'git submodule update --init' in the sandbox");
  if (const auto attributes = read_file_if_exists(target / ".gitattributes");
      attributes && attributes->find("filter=lfs") != std::string::npos)
    warnings.emplace_back("Git LFS files come as pointers; run 'git lfs pull' in the sandbox");
  if (HostGit(host.worktree).try_line({"config", "--type=bool", "--get", "core.sparseCheckout"}, deadline) == "true")
    warnings.emplace_back("your checkout is sparse; the sandbox has the whole tree");
}

}  // namespace

Json to_json(const SeedReport& report) {
  return {{"branch", report.branch},
          {"head", report.head},
          {"dirty",
           {{"staged", report.dirty.staged},
            {"modified", report.dirty.modified},
            {"deleted", report.dirty.deleted},
            {"untracked", report.dirty.untracked}}},
          {"warnings", report.warnings}};
}

SeedReport seed_workspace(const SeedRequest& request, const Progress& progress, Deadline deadline) {
  try {
    const auto host = open_host_repository(request.repository, deadline);
    SeedReport result;
    const auto start = starting_point(request, host, result.warnings, deadline);
    prepare_target(request.target);
    const auto target = fs::canonical(request.target);
    const HostGit clone(target, HostGit::Config::none);
    report(progress, "workspace-clone", "copying the repository");
    clone.output({"init", "--quiet", "--template=", "--initial-branch=main"}, deadline);
    fetch_everything(host, clone, deadline);
    set_head(start, clone, deadline);
    restore_symbolic_refs(HostGit(host.worktree), clone, deadline);

    report(progress, "workspace-files", "copying the work tree");
    const auto work = target / ".git/agentvm-seed";
    std::string tree = start.tip;
    std::optional<DirtyState> dirty;
    if (start.carries_dirty) {
      dirty.emplace(host, work, result.warnings, deadline);
      dirty->send_objects(clone);
      tree = dirty->tree();
      result.dirty = dirty->counts();
      if (!host.operation.empty())
        result.warnings.push_back(fmt::format(
            "{} is in progress in your work tree; the files came along, the operation did not", host.operation));
    } else if (HostGit(host.worktree).line({"status", "--porcelain", "--ignore-submodules=all"}, deadline).size() > 0) {
      result.warnings.push_back(
          "uncommitted changes stay in your work tree: they belong to another commit than the sandbox's branch");
    }
    if (!tree.empty()) {
      clone.output({"read-tree", tree}, deadline);
      clone.output({"checkout-index", "--all", "--force", "--quiet"}, deadline);
    }
    if (dirty) dirty->apply(clone);
    write_config(request, host, start, target, deadline);
    remove_tree(work);
    clone.run({"update-index", "-q", "--refresh"}, deadline);
    add_content_warnings(target, host, result.warnings, deadline);
    if (request.owner) give_to(target, request.owner->uid, request.owner->gid);
    result.branch = start.branch;
    result.head = start.tip;
    return result;
  } catch (Error& error) {
    error.while_doing("copying " + request.repository.string() + " into the sandbox");
    throw;
  }
}

}  // namespace agentvm::sync
