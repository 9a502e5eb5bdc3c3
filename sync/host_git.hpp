#pragma once
// The git program, run on repositories that the user owns and trusts - never on one that a guest can write.

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/process.hpp"

namespace agentvm::sync {

namespace fs = std::filesystem;

/// The id of a tree without entries, which every git knows without having it (git's hash-object, SHA-1).
inline constexpr const char* empty_tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Runs git with nothing of our own environment's GIT_* variables, in the C locale, without prompts, pagers, editors,
/// hooks, background maintenance or submodule recursion. Cheap to copy. Thread rule: value type; two calls on one
/// repository are git's own business.
class HostGit {
 public:
  enum class Config { of_user, none };
  /// `folder`: where git runs. `of_user`: the user's and the system's configuration count (their repository); `none`:
  /// neither (our clone).
  explicit HostGit(fs::path folder, Config config = Config::of_user) : folder_(std::move(folder)), config_(config) {}

  /// A copy that also sees these variables (GIT_INDEX_FILE and the like).
  HostGit with_env(const std::string& name, const std::string& value) const;
  const fs::path& folder() const { return folder_; }

  ProcessSpec spec(std::vector<std::string> args) const;
  /// Never throws for a non-zero status.
  RunResult run(std::vector<std::string> args, Deadline deadline, std::string_view input = {}) const;
  /// Standard output as it is. A failure throws `operation_failed` with git's own words; "not a git repository" is
  /// `not_found`, doubtful ownership and missing permission name their remedy.
  std::string output(std::vector<std::string> args, Deadline deadline, std::string_view input = {}) const;
  /// `output` without the newline at its end.
  std::string line(std::vector<std::string> args, Deadline deadline) const;
  /// `line`, or nothing when git says no (any non-zero status).
  std::optional<std::string> try_line(std::vector<std::string> args, Deadline deadline) const;
  bool succeeds(std::vector<std::string> args, Deadline deadline) const;

 private:
  fs::path folder_;
  Config config_;
  std::map<std::string, std::string> extra_;
};

/// `text` split at NUL bytes; a last one ends nothing.
std::vector<std::string> split_nul(std::string_view text);
std::vector<std::string> split_lines(std::string_view text);

/// The environment git gets: ours without GIT_*, with LC_ALL=C and the switches that keep it quiet.
std::map<std::string, std::string> git_environment();

}  // namespace agentvm::sync
