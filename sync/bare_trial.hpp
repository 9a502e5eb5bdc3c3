#pragma once
// A bare repository of nothing but borrowed objects, to try a merge in: it has no configuration, attributes or index
// that could name a driver, and what git writes while it tries goes away with its folder.

#include <optional>
#include <string>
#include <vector>

#include "sync/host_git.hpp"

namespace agentvm::sync {

class BareTrial {
 public:
  /// `folder` is made, private; it is the caller's to remove. `object_dirs`: whose objects are borrowed.
  BareTrial(fs::path folder, const std::vector<fs::path>& object_dirs);

  const HostGit& git() const { return git_; }
  const fs::path& folder() const { return folder_; }
  fs::path objects() const { return folder_ / "objects"; }
  /// A commit object of `tree` upon `parents`; nothing when git does not take it.
  std::optional<std::string> commit(const std::string& tree, const std::vector<std::string>& parents,
                                    Deadline deadline) const;

  struct Merge {
    std::string tree;                    ///< empty where files conflict
    std::vector<std::string> conflicts;  ///< sorted; guest text
  };
  /// Of two commits; nothing when git cannot (before 2.38).
  std::optional<Merge> merge(const std::string& ours, const std::string& theirs, Deadline deadline) const;

 private:
  fs::path folder_;
  HostGit git_;
};

}  // namespace agentvm::sync
