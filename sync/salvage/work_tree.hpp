#pragma once
// A commit of what lies in a folder that a guest wrote and was not committed there.

#include <optional>
#include <string>
#include <vector>

#include "sync/salvage/copied_repository.hpp"

namespace agentvm::sync {

struct UncommittedWork {
  std::optional<std::string> commit;  ///< nothing when everything is committed
  std::vector<std::string> warnings;
};

/// Copies tracked and not ignored files of the folder `tree` into the folder `copy` and commits them on top of what
/// `head`, the content of its HEAD file, names (without a parent when that cannot be read). Blocking. Throws as
/// `Salvage` does.
UncommittedWork commit_work_tree(int tree, const std::string& head, const fs::path& copy, CopiedRepository& repository,
                                 const SalvageLimits& limits, Deadline deadline);

}  // namespace agentvm::sync
