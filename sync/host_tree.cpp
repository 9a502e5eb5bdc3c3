#include "sync/host_tree.hpp"

#include <cstdlib>
#include <set>

#include <fmt/format.h>
#include <sys/stat.h>

#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t listed_paths_limit = 100;
constexpr const char* empty_tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

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

RangeSize range_size(const HostGit& git, const std::string& old_tip, const std::string& new_tip, Deadline deadline) {
  RangeSize size;
  const auto range = old_tip.empty() ? new_tip : old_tip + ".." + new_tip;
  size.commits = std::strtoull(git.line({"rev-list", "--count", range}, deadline).c_str(), nullptr, 10);
  // Since the common ancestor: what the guest did, not what the host did meanwhile.
  std::string base = old_tip.empty() ? empty_tree : old_tip;
  if (!old_tip.empty()) base = git.try_line({"merge-base", old_tip, new_tip}, deadline).value_or(empty_tree);
  for (const auto& row : split_nul(git.output(
           {"diff-tree", "-r", "-z", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", base, new_tip},
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
  for (const auto& line : split_nul(git.output({"log", "-z", "--no-show-signature", "--no-decorate", "--no-color",
                                                "--max-count=20", "--format=%h %s", range},
                                               deadline))) {
    const auto space = line.find(' ');
    if (space != std::string::npos) log.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  return log;
}

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
  Refusal refusal{"git did not fast-forward", {}};
  for (const auto& line : split_lines(result.err)) {
    if (line.starts_with('\t') && refusal.paths.size() < listed_paths_limit) refusal.paths.push_back(line.substr(1));
    if (line.starts_with("error: ") || line.starts_with("fatal: "))
      refusal.reason += ": " + clean_guest_text(line.substr(7));
  }
  if (tip == new_tip) refusal.reason += " cleanly, although the branch moved";
  return refusal;
}

}  // namespace agentvm::sync
