#include "sync/salvage.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "sync/guest_work.hpp"
#include "sync/ref_writer.hpp"
#include "sync/refs.hpp"
#include "sync/salvage/copied_repository.hpp"
#include "sync/salvage/serve.hpp"
#include "sync/salvage/survey.hpp"
#include "sync/salvage/work_tree.hpp"
#include "sync/wip.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::string_view folder_prefix = "salvage-";
constexpr const char* repository_name = "repository";
constexpr const char* tree_name = "tree";
constexpr std::size_t problem_limit_bytes = 600;
constexpr const char* worktrees_folder = ".worktrees";

/// A name as `branch_label` makes it: what may stand in a reference of ours.
bool is_label(std::string_view name) {
  return !name.empty() && name.size() <= 100 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

void sweep(const fs::path& scratch) {
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator(scratch, problem))
    if (entry.path().filename().string().starts_with(folder_prefix)) remove_tree(entry.path());
}

}  // namespace

Salvage::Salvage(const SalvageRequest& request, const Progress& progress, Deadline deadline) {
  const UniqueFd workspace(::open(request.workspace.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!workspace)
    throw Error(ErrorCode::not_found,
                fmt::format("the workspace {} cannot be opened: {}", request.workspace.string(), errno_text(errno)));
  ensure_private_dir(request.scratch);
  sweep(request.scratch);
  folder_ = fs::canonical(request.scratch) / (std::string(folder_prefix) + random_hex(8));
  try {
    ensure_private_dir(folder_);
    report(progress, "salvage", "reading the commits that are only in the workspace");
    CopiedRepository repository(workspace.get(), folder_ / repository_name, request.limits, deadline);
    warnings_ = repository.warnings();
    report(progress, "salvage", "reading what was not committed");
    commit_work_trees(workspace.get(), request, repository, deadline);
  } catch (const std::exception& problem) {
    try {
      remove_tree(folder_);
    } catch (const Error& error) {
      log::warn("salvage", "{}", error.what());  // the next one sweeps it
    }
    // It may name a file that the guest made.
    if (const auto* error = dynamic_cast<const Error*>(&problem))
      throw Error(error->code(), clean_guest_text(error->what(), Newlines::escape, problem_limit_bytes), error->hint());
    throw;
  }
}

/// The workspace itself, and those that `worktree add` made below it.
void Salvage::commit_work_trees(int workspace, const SalvageRequest& request, CopiedRepository& repository,
                                Deadline deadline) {
  const auto commit = [&](int tree, const std::string& head, const std::string& label) {
    const auto work = commit_work_tree(tree, head, folder_ / tree_name, repository, request.limits, deadline);
    remove_tree(folder_ / tree_name);
    warnings_.insert(warnings_.end(), work.warnings.begin(), work.warnings.end());
    if (!work.commit) return;
    const auto branch = label.empty() ? request.branch : fmt::format("{}-{}", request.branch, label);
    repository.add_branch(branch, *work.commit);
    uncommitted_[branch] = label;
  };
  commit(workspace, read_head(workspace, ".git/HEAD"), "");
  std::set<std::string> labels;
  survey(workspace, worktrees_folder, worktrees_limit, deadline, [&](const SurveyEntry& entry) {
    if (S_ISDIR(entry.mode) && is_label(entry.name())) labels.insert(std::string(entry.name()));
    return false;
  });
  for (const auto& label : labels) {
    const auto path = fmt::format("{}/{}", worktrees_folder, label);
    // "gitdir: /workspace/.git/worktrees/<id>": where git keeps this work tree's HEAD. Only <id> is taken from it.
    const auto link = read_head(workspace, path + "/.git");
    const auto id = link.substr(link.rfind('/') + 1);
    if (!link.starts_with("gitdir: ") || id.empty() || id == "." || id == "..") continue;
    if (const auto tree = open_folder_beneath(workspace, path))
      commit(tree.get(), read_head(workspace, fmt::format(".git/worktrees/{}/HEAD", id)), label);
  }
}

Salvage::~Salvage() {
  try {
    remove_tree(folder_);
  } catch (const Error& error) {
    log::warn("salvage", "{}", error.what());
  }
}

std::unique_ptr<guest::Streams> Salvage::streams() const {
  return serve_repository(folder_ / repository_name);
}

std::string keep_as_wip(const fs::path& repository, const SandboxName& sandbox, const std::string& ref,
                        const std::string& label, Clock& clock, Deadline deadline) {
  const auto host = open_host_repository(repository, deadline);
  const HostGit git(host.worktree);
  const auto tip = git.line({"rev-parse", "--verify", ref}, deadline);
  const auto tree = git.line({"rev-parse", "--verify", tip + "^{tree}"}, deadline);
  const auto base = git.try_line({"rev-parse", "-q", "--verify", tip + "^"}, deadline).value_or("");
  const auto known = list_wip(git, sandbox.str(), deadline);
  const auto same = std::find_if(known.begin(), known.end(), [&](const WipEntry& entry) {
    return entry.ref != ref && entry.kind == WipKind::kept && entry.tree == tree && entry.base == base;
  });
  std::vector<RefEdit> edits = {{ref, "", tip}};
  if (same != known.end()) {
    RefWriter(host, git, deadline).apply(edits);
    return same->ref;
  }
  const auto named = [&](std::int64_t time) {
    return mirror_ref(sandbox.str(), "wip/" + WipName{ref_stamp(time), label, WipKind::kept}.str());
  };
  auto time = clock.unix_seconds();
  while (std::any_of(known.begin(), known.end(), [&](const WipEntry& entry) { return entry.ref == named(time); }))
    ++time;
  edits.push_back({named(time), tip, ""});
  RefWriter(host, git, deadline).apply(edits);
  return named(time);
}

}  // namespace agentvm::sync
