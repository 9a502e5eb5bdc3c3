#include "sync/bare_trial.hpp"

#include <algorithm>

#include "sync/refs.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {

BareTrial::BareTrial(fs::path folder, const std::vector<fs::path>& object_dirs)
    : folder_(std::move(folder)), git_(HostGit(folder_, HostGit::Config::none).with_env("GIT_DIR", folder_.string())) {
  ensure_private_dir(folder_ / "objects/info");
  ensure_private_dir(folder_ / "refs");
  std::string alternates;
  for (const auto& dir : object_dirs) alternates += dir.string() + "\n";
  write_file_atomic(folder_ / "objects/info/alternates", alternates);
  write_file_atomic(folder_ / "config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n");
  write_file_atomic(folder_ / "HEAD", "ref: refs/heads/none\n");
}

std::optional<std::string> BareTrial::commit(const std::string& tree, const std::vector<std::string>& parents,
                                             Deadline deadline) const {
  const std::string who = "agentvm <agentvm@localhost> 0 +0000";
  auto text = "tree " + tree + "\n";
  for (const auto& parent : parents) text += "parent " + parent + "\n";
  text += "author " + who + "\ncommitter " + who + "\n\ntried\n";
  const auto made = git_.run({"hash-object", "-t", "commit", "-w", "--stdin"}, deadline, text);
  if (!made.status.ok() || made.out.size() < oid_hex_length) return std::nullopt;
  return made.out.substr(0, oid_hex_length);
}

std::optional<BareTrial::Merge> BareTrial::merge(const std::string& ours, const std::string& theirs,
                                                 Deadline deadline) const {
  const auto merge = git_.run({"-c", "merge.renameLimit=1000", "merge-tree", "--write-tree", "--name-only", "-z",
                               "--no-messages", ours, theirs},
                              deadline);
  if (merge.status.signal != 0 || merge.status.code > 1) return std::nullopt;  // git before 2.38: 129
  auto names = split_nul(merge.out);                                           // the tree, then what conflicts
  if (names.empty() || !is_oid(names.front())) return std::nullopt;
  Merge result{merge.status.code == 0 ? names.front() : "", {}};
  names.erase(names.begin());
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  result.conflicts = std::move(names);
  return result;
}

}  // namespace agentvm::sync
