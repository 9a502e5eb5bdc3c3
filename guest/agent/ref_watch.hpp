#pragma once
// Whether the references of a repository may have changed: HEAD, refs/, packed-refs and the HEADs of its worktrees.
// inotify says when to look, a look makes a token of what stat(2) tells. Nothing of the repository is read or run: the
// token is a hint for the host to fetch, and says nothing of what it would find.

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::guest::agent {

class RefWatch {
 public:
  /// `repository`: the work tree. It may be absent, or come later.
  explicit RefWatch(std::filesystem::path repository);
  /// Readable when the kernel has told something; -1 where it cannot.
  int fd() const { return inotify_.get(); }
  /// Takes in what the kernel told. A burst of changes (a rebase, a fetch) is one: see `next_look`.
  void take_events(SteadyTime now);
  /// When `look` is worth its while; nothing: not before the kernel tells something.
  std::optional<SteadyTime> next_look() const { return next_look_; }
  /// Looks. Never throws for what a program of the guest does.
  void look(SteadyTime now);
  /// 16 hexadecimal digits; differs whenever a look saw other references. Empty before the first.
  const std::string& token() const { return token_; }
  /// Whether the last look saw every reference. Else an equal token means nothing: no repository, a `.git` that is no
  /// folder, references kept elsewhere than in files, too many of them.
  bool whole() const { return whole_; }

 private:
  enum class Folder { git, refs, worktrees, worktree };
  struct Entry {
    std::string name;
    bool is_folder;
  };
  void walk(int parent, const std::string& name, const std::string& path, Folder kind, unsigned depth);
  void watch(const std::string& path, Folder kind);
  void note(int folder, const std::string& path, const char* name);
  void hash(const void* bytes, std::size_t size);
  static std::vector<Entry> list(int folder);

  const std::filesystem::path repository_;
  UniqueFd inotify_;
  std::map<int, Folder> watches_;
  std::string token_;
  std::optional<SteadyTime> next_look_, burst_began_;
  // Of the look that is going on:
  std::uint64_t digest_ = 0;
  std::size_t entries_ = 0;
  bool whole_ = false;
  bool blind_ = false;  // something could not be watched: looked at from time to time
};

}  // namespace agentvm::guest::agent
