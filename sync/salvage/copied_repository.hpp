#pragma once
// A bare repository of our own, filled with the objects and branches of one that a guest wrote.

#include <optional>
#include <string>
#include <vector>

#include "sync/host_git.hpp"
#include "sync/salvage.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::sync {

class CopiedRepository {
 public:
  /// Makes `folder` and copies from `.git` below `workspace` (a descriptor of the folder). Takes loose objects and
  /// packs (indexed anew), refs/heads/*, HEAD and info/exclude; nothing else. No `.git` folder there: an empty
  /// repository.
  CopiedRepository(int workspace, const fs::path& folder, const SalvageLimits& limits, Deadline deadline);

  /// Git on the copy, with none of anybody's configuration, bounded in memory and processor time.
  RunResult run(const std::vector<std::string>& args, Deadline deadline, std::string_view input = {}) const;
  /// Standard output without the last newline; nothing when git says no.
  std::optional<std::string> ask(const std::vector<std::string>& args, Deadline deadline,
                                 std::string_view input = {}) const;
  ProcessSpec bounded(std::vector<std::string> args) const;
  void with_env(const std::string& name, const std::string& value) { git_ = git_.with_env(name, value); }

  const fs::path& folder() const { return folder_; }
  /// The commit that the content of a HEAD file names, when it and all of its history can be read.
  std::optional<std::string> commit_of(const std::string& head, Deadline deadline) const;
  void add_branch(const std::string& branch, const std::string& commit);
  std::uint64_t copied_bytes() const { return copied_bytes_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void copy_objects(int workspace, Deadline deadline);
  void index_packs(Deadline deadline);
  void copy_branches(int workspace, Deadline deadline);
  void drop_broken_branches(Deadline deadline);
  void write_branches() const;
  /// Whether every object that these commits need is there.
  bool is_whole(const std::vector<std::string>& commits, Deadline deadline) const;

  fs::path folder_;
  SalvageLimits limits_;
  HostGit git_;
  std::map<std::string, std::string> branches_;  ///< full name -> commit
  std::uint64_t copied_bytes_ = 0;
  std::vector<std::string> warnings_;
};

/// The content of a regular file below `root`, no link followed on the way; nothing when it is absent, no file or
/// longer than `limit_bytes`.
std::optional<std::string> read_beneath(int root, const std::string& path, std::size_t limit_bytes);
/// A folder below `root`, no link followed on the way; empty when there is none.
UniqueFd open_folder_beneath(int root, const std::string& path);
/// The content of a HEAD file below `root`, without its newline; empty when there is none.
std::string read_head(int root, const std::string& path);

}  // namespace agentvm::sync
