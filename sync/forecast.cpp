#include "sync/forecast.hpp"

#include <algorithm>

#include "sync/refs.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::sync {
namespace {

constexpr milliseconds patience{20'000};
constexpr std::size_t listed_limit = 100;
constexpr std::size_t index_limit_bytes = 1u << 30;

/// A bare repository of nothing but borrowed objects: it has no configuration, attributes or index that could name a
/// driver, and what git writes while it tries goes away with the quarantine.
HostGit make_bare(const fs::path& folder, const HostRepository& host, const fs::path& quarantine_objects) {
  ensure_private_dir(folder / "objects/info");
  ensure_private_dir(folder / "refs");
  std::string alternates = quarantine_objects.string() + "\n";
  for (const auto& dir : host.object_dirs) alternates += dir.string() + "\n";
  write_file_atomic(folder / "objects/info/alternates", alternates);
  write_file_atomic(folder / "config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n");
  write_file_atomic(folder / "HEAD", "ref: refs/heads/none\n");
  return HostGit(folder, HostGit::Config::none).with_env("GIT_DIR", folder.string());
}

/// A commit of the user's tracked files as they are on disk, made through a copy of the index; HEAD when they are
/// clean. Nothing when git cannot write such a tree (unmerged files).
std::optional<std::string> commit_of_tree(const HostRepository& host, const HostGit& bare, const fs::path& folder,
                                          Deadline deadline) {
  const auto index = read_file_if_exists(host.git_dir / "index", index_limit_bytes);
  if (!index) return host.head;
  write_file_atomic(folder / "index", *index);
  const auto git = HostGit(host.worktree)
                       .with_env("GIT_INDEX_FILE", (folder / "index").string())
                       .with_env("GIT_OBJECT_DIRECTORY", (folder / "objects").string());
  if (!git.succeeds({"add", "--update", "--ignore-errors", "--", ":/"}, deadline)) return std::nullopt;
  const auto tree = git.try_line({"write-tree"}, deadline);
  if (!tree) return std::nullopt;
  const auto who = "agentvm <agentvm@localhost> 0 +0000";
  const auto commit = bare.run(
      {"hash-object", "-t", "commit", "-w", "--stdin"}, deadline,
      "tree " + *tree + "\nparent " + host.head + "\nauthor " + who + "\ncommitter " + who + "\n\nas on disk\n");
  if (!commit.status.ok() || commit.out.size() < oid_hex_length) return std::nullopt;
  return commit.out.substr(0, oid_hex_length);
}

}  // namespace

std::optional<std::vector<std::string>> forecast_merge(const HostRepository& host, const fs::path& quarantine_objects,
                                                       const fs::path& folder, const std::string& tip,
                                                       Deadline deadline) {
  if (host.head.empty() || !host.operation.empty()) return std::nullopt;
  deadline = deadline.sooner(Deadline::after(patience));
  try {
    const auto bare = make_bare(folder, host, quarantine_objects);
    const auto ours = commit_of_tree(host, bare, folder, deadline);
    if (!ours) return std::nullopt;
    const auto merge = bare.run({"-c", "merge.renameLimit=1000", "merge-tree", "--write-tree", "--name-only", "-z",
                                 "--no-messages", *ours, tip},
                                deadline);
    if (merge.status.signal != 0 || merge.status.code > 1) return std::nullopt;  // git before 2.38: 129
    auto names = split_nul(merge.out);                                           // the tree, then what conflicts
    if (names.empty() || !is_oid(names.front())) return std::nullopt;
    names.erase(names.begin());
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    if (names.size() > listed_limit) names.resize(listed_limit);
    return names;
  } catch (const Error& error) {
    log::info("sync", "no forecast: {}", error.what());
    return std::nullopt;
  }
}

std::optional<std::vector<std::string>> forecast_commits(const BareTrial& trial, const std::string& ours,
                                                         const std::string& theirs, Deadline deadline) {
  try {
    auto merge = trial.merge(ours, theirs, deadline.sooner(Deadline::after(patience)));
    if (!merge) return std::nullopt;
    if (merge->conflicts.size() > listed_limit) merge->conflicts.resize(listed_limit);
    return std::move(merge->conflicts);
  } catch (const Error& error) {
    log::info("sync", "no forecast: {}", error.what());
    return std::nullopt;
  }
}

}  // namespace agentvm::sync
