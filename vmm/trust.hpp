#pragma once
// What the user allows the files of their projects to ask for.
//
// Job: remembering, per project and per widening key, the digest of the value that the user was shown and took; and
// saying of a value whether it is still that one. Not its job: asking, and what a value means. One file per project
// below <state>/trust, replaced in one step. Threads: all from any; two that write the same project's file at once
// leave one of the two.

#include <filesystem>
#include <map>
#include <string>

#include "vmm/config.hpp"

namespace agentvm {

/// Key name -> `trust_digest` of the value that counts.
using TrustedDigests = std::map<std::string, std::string, std::less<>>;

class TrustStore {
 public:
  /// `state` is `Paths::state`; the folder below it is made (0700) when it is first written to.
  explicit TrustStore(const std::filesystem::path& state) : folder_(state / "trust") {}

  /// Empty for a project that was never trusted. A file that cannot be understood trusts nothing, and is logged.
  TrustedDigests read(const std::filesystem::path& project) const;
  /// Replaces what is trusted of the project. On error the old file stands.
  void write(const std::filesystem::path& project, const TrustedDigests& digests);
  /// Whether there was something to take back.
  bool remove(const std::filesystem::path& project);

  /// For `ConfigInput::trust`: reads the project's file now, once.
  TrustLookup lookup(const std::filesystem::path& project) const;

 private:
  std::filesystem::path file(const std::filesystem::path& project) const;
  std::filesystem::path folder_;
};

/// 64 hex digits that stand for this value of this key; formatting and comments of the file do not count. For an
/// `image` that is the path of a recipe (a relative one starts at `project`) the recipe's bytes count too; throws
/// `not_found` when it is absent, and what `read_config_file` throws.
std::string trust_digest(const ConfigKey& key, const Json& value, const std::filesystem::path& project);

/// Where an `image` of a project's file is: absolute, without '..'.
std::filesystem::path project_recipe(const Json& value, const std::filesystem::path& project);

}  // namespace agentvm
