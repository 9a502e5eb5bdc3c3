#pragma once
// Real git repositories in a folder that goes away with the test.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "vmm/base/process.hpp"

namespace agentvm::test {

namespace fs = std::filesystem;

class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

/// A repository driven by the git program, with fixed identity and no configuration of the machine.
class Repo {
 public:
  explicit Repo(fs::path path) : path_(std::move(path)) {}
  static Repo init(const fs::path& path, const std::string& branch = "main");
  static Repo clone(const Repo& from, const fs::path& to);

  const fs::path& path() const { return path_; }
  /// Standard output without its last newline; a failure throws.
  std::string git(std::vector<std::string> args, const std::string& input = {}) const;
  bool git_ok(std::vector<std::string> args) const;
  /// All that it says, whatever its status.
  std::string git_words(std::vector<std::string> args) const;
  void write(const std::string& name, const std::string& content, bool executable = false) const;
  std::string read(const std::string& name) const;
  /// Writes the file, adds it and commits; returns the commit.
  std::string commit(const std::string& name, const std::string& content, const std::string& message = "change") const;
  std::string tip(const std::string& ref = "HEAD") const { return git({"rev-parse", ref}); }
  /// All references and their ids: equal before and after means nothing moved.
  std::string refs() const { return git({"for-each-ref", "--format=%(objectname) %(refname)"}); }
  /// What a user sees: `git status` with untracked files.
  std::string status() const { return git({"status", "--porcelain=v1", "--untracked-files=all"}); }
  /// Throws when it finds anything.
  void fsck() const { git({"fsck", "--strict", "--full"}); }

 private:
  fs::path path_;
};

}  // namespace agentvm::test
