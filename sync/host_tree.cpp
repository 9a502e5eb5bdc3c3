#include "sync/host_tree.hpp"

#include <cstdlib>
#include <set>

#include <fmt/format.h>
#include <sys/stat.h>

#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t listed_paths_limit = 100;

bool on_disk(const fs::path& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}
bool is_real_folder(const fs::path& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// The first part of `name` that is on disk as something else than a folder: it would have to give way.
std::optional<std::string> blocking_parent(const fs::path& worktree, const std::string& name) {
  for (auto slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
    const auto parent = name.substr(0, slash);
    if (!on_disk(worktree / parent)) return std::nullopt;
    if (!is_real_folder(worktree / parent)) return parent;
  }
  return std::nullopt;
}

}  // namespace

bool tracked_files_are_clean(const HostGit& git, Deadline deadline) {
  return git
      .output({"status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty", "--no-renames", "-z"},
              deadline)
      .empty();
}

std::vector<std::string> untracked_in_the_way(const HostGit& git, const fs::path& worktree, const std::string& old_tip,
                                              const std::string& new_tip, Deadline deadline) {
  const std::string base = old_tip.empty() ? empty_tree : old_tip;
  std::set<std::string> found;
  for (const auto& name : split_nul(git.output(
           {"diff-tree", "-r", "-z", "--name-only", "--diff-filter=A", "--no-renames", "--no-ext-diff", base, new_tip},
           deadline))) {
    if (found.size() >= listed_paths_limit) break;
    const auto parent = blocking_parent(worktree, name);
    const auto& path = parent ? *parent : name;
    if (!parent && !on_disk(worktree / name)) continue;
    // What is tracked at the old tip is git's to replace (a file that becomes a folder, or the other way round).
    if (!git.output({"ls-tree", "-z", "--name-only", base, "--", path}, deadline).empty()) continue;
    found.insert(path);
  }
  return {found.begin(), found.end()};
}

std::uint64_t range_commits(const HostGit& git, const std::string& old_tip, const std::string& new_tip,
                            Deadline deadline) {
  const auto range = old_tip.empty() ? new_tip : old_tip + ".." + new_tip;
  return std::strtoull(git.line({"rev-list", "--count", range}, deadline).c_str(), nullptr, 10);
}

std::uint64_t commits_without(const HostGit& git, const std::string& tip, const std::vector<std::string>& others,
                              Deadline deadline) {
  std::string revisions = tip + "\n";
  for (const auto& other : others) revisions += "^" + other + "\n";
  return std::strtoull(git.output({"rev-list", "--count", "--stdin"}, deadline, revisions).c_str(), nullptr, 10);
}

RangeSize range_files(const HostGit& git, const std::string& base, const std::string& new_tip, Deadline deadline) {
  RangeSize size;
  for (const auto& row : split_nul(git.output({"diff-tree", "-r", "-z", "--numstat", "--no-renames", "--no-ext-diff",
                                               "--no-textconv", base.empty() ? empty_tree : base, new_tip},
                                              deadline))) {
    ++size.files_changed;
    char* end = nullptr;  // "-" for binary files counts as 0
    size.insertions += std::strtoull(row.c_str(), &end, 10);
    const auto tab = row.find('\t');
    if (tab != std::string::npos) size.deletions += std::strtoull(row.c_str() + tab + 1, nullptr, 10);
  }
  return size;
}

std::vector<CommitLine> range_log(const HostGit& git, const std::string& old_tip, const std::string& new_tip,
                                  Deadline deadline) {
  std::vector<CommitLine> log;
  const auto range = old_tip.empty() ? new_tip : old_tip + ".." + new_tip;
  for (const auto& line :
       split_nul(git.output({"log", "-z", "--no-show-signature", "--no-decorate", "--no-color",
                             fmt::format("--max-count={}", logged_commits_limit), "--format=%h %s", range},
                            deadline))) {
    const auto space = line.find(' ');
    if (space != std::string::npos) log.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  return log;
}

namespace {

Refusal refusal_of(std::string reason, const RunResult& result) {
  Refusal refusal{std::move(reason), {}};
  for (const auto& line : split_lines(result.err)) {
    if (line.starts_with('\t') && refusal.paths.size() < listed_paths_limit) refusal.paths.push_back(line.substr(1));
    if (line.starts_with("error: ") || line.starts_with("fatal: "))
      refusal.reason += ": " + clean_guest_text(line.substr(7));
  }
  return refusal;
}

}  // namespace

std::optional<Refusal> fast_forward(const HostGit& git, const HostRepository& host, const std::string& new_tip,
                                    Deadline deadline) {
  // The branch must still be the one that was looked at: merge works on whatever is checked out now.
  if (git.try_line({"symbolic-ref", "-q", "HEAD"}, deadline) != std::optional("refs/heads/" + host.head_branch))
    return Refusal{"another branch was checked out meanwhile", {}};
  // --no-overwrite-ignore: an ignored file (.env) that the guest committed must not silently replace the user's own.
  const auto result =
      git.run({"-c", "merge.verifySignatures=false", "-c", "merge.autoStash=false", "merge", "--ff-only",
               "--no-autostash", "--no-overwrite-ignore", "--no-verify-signatures", "--no-stat", "--quiet", new_tip},
              deadline);
  const auto tip = git.try_line({"rev-parse", "-q", "--verify", "HEAD^{commit}"}, deadline).value_or("");
  if (result.status.ok() && tip == new_tip) return std::nullopt;
  auto refusal = refusal_of("git did not fast-forward", result);
  if (tip == new_tip) refusal.reason += " cleanly, although the branch moved";
  return refusal;
}

std::string checked_out_elsewhere(const HostGit& git, const std::string& branch, Deadline deadline) {
  const auto ref = std::string(branch_prefix) + branch;
  if (git.try_line({"symbolic-ref", "-q", "HEAD"}, deadline) == ref) return {};
  for (const auto& line :
       split_lines(git.output({"for-each-ref", "--format=%(refname) %(worktreepath)", ref}, deadline)))
    if (line.starts_with(ref + " ")) return line.substr(ref.size() + 1);
  return {};
}

std::optional<Refusal> follow_branch(const HostGit& git, const HostRepository& host, const std::string& branch,
                                     const std::string& old_tip, const std::string& new_tip, Deadline deadline) {
  const auto checkout = [&](std::vector<std::string> what) {
    std::vector<std::string> args = {"checkout", "--quiet", "--no-guess", "--no-overwrite-ignore"};
    args.insert(args.end(), what.begin(), what.end());
    args.emplace_back("--");
    return git.run(args, deadline);
  };
  const auto result = old_tip.empty() ? checkout({"--no-track", "-b", branch, new_tip}) : checkout({branch});
  auto there = host;
  there.head_branch = branch;
  if (!result.status.ok() ||
      git.try_line({"symbolic-ref", "-q", "HEAD"}, deadline) != std::string(branch_prefix) + branch)
    return refusal_of(fmt::format("git did not check out '{}'", clean_guest_text(branch)), result);
  // Two steps where the branch exists: killed between them, the user is on it, and the next sync moves it forward.
  auto refusal = old_tip.empty() || old_tip == new_tip ? std::nullopt : fast_forward(git, there, new_tip, deadline);
  if (refusal) checkout({host.head_branch});
  return refusal;
}

}  // namespace agentvm::sync
