#pragma once
// What `run` and `plan run` have in common: another repository than the one here, and words that are a task.

#include <string>
#include <vector>

#include "cli/commands/command.hpp"

namespace agentvm::cli {

struct RepositoryAddress {
  std::string url;    ///< as git takes it
  std::string shown;  ///< without what may be a password
  std::string name;   ///< of the folder that a clone gets
};
/// Of what --repo was given: a URL, a path, or owner/name of the best-known forge. Throws `usage`.
RepositoryAddress repository_address(const std::string& asked);

/// The branch that the repository's HEAD names, asked by the user's own git, with their credentials; empty when it
/// names none. Like a clone, it reads no configuration of the folder that it runs in. Throws `operation_failed` with
/// git's words.
std::string remote_head(const RepositoryAddress& repository);

/// With spaces between them.
std::string joined_words(const std::vector<std::string>& words);

/// --repo and --keep.
std::vector<OptionSpec> run_options();

}  // namespace agentvm::cli
