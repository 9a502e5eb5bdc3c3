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

/// Copies tracked and not ignored files of `workspace` into the folder `copy` and commits them on top of HEAD (without
/// a parent when HEAD cannot be read). Blocking. Throws as `Salvage` does.
UncommittedWork commit_work_tree(int workspace, const fs::path& workspace_path, const fs::path& copy,
                                 CopiedRepository& repository, const SalvageLimits& limits, Deadline deadline);

}  // namespace agentvm::sync
