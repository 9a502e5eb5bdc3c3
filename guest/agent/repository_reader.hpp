#pragma once
// Reads references and loose objects of the repository in the workspace, from files alone: no git runs. Files that are
// not what git makes them (links, pipes, other formats) are not followed, opened or told: it declines.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/fd.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::guest::agent {

class RepositoryReader {
 public:
  /// `repository`: the work tree, whose `.git` is looked up anew with each call.
  explicit RepositoryReader(std::filesystem::path repository) : repository_(std::move(repository)) {}

  /// {"whole": true, "head": "refs/heads/main", "refs": {name: id}}: branches and tags, and the branch that HEAD is on
  /// ("" where it is on none). {"whole": false} where files do not tell all, or not in a way that fits one answer.
  Json references() const;
  /// {"objects": {id: base64 of the file}}: those that are loose, as many as fit one answer, in the order asked for.
  Json objects(const std::vector<std::string>& ids) const;

 private:
  UniqueFd git_folder() const;
  const std::filesystem::path repository_;
};

}  // namespace agentvm::guest::agent
