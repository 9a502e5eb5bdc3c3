#pragma once
// Work in a workspace folder whose guest is gone: it crashed, was ended by force, or does not boot any more.
//
// Job: make a repository of our own that holds the guest's branches and a commit of what was not committed, and serve
// it as the guest would have, so that it comes home through the same quarantine and checks (`sync_now`). Not its job:
// trust in anything found there; deciding when. Flow: objects and references are copied by descriptor, never through a
// link; packs are indexed anew; the work tree becomes a skeleton of empty files, git (with our configuration and none
// other) says which of them are tracked or not ignored, and only those are filled and committed. No program ever opens
// the folder as a repository: its configuration, attributes, hooks, alternates and nested repositories have no reader.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "guest/streams.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/names.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm::sync {

struct SalvageLimits {
  std::uint64_t entries = 4'000'000;         ///< files and folders looked at
  std::uint64_t bytes = 64ULL << 30;         ///< copied, objects and files together
  std::uint64_t process_bytes = 4ULL << 30;  ///< private memory of each git that reads copied objects
};

struct SalvageRequest {
  fs::path workspace;  ///< written by a guest that does not run any more
  fs::path scratch;    ///< a private folder of this sandbox; needs room for a copy of the objects and of changed files
  std::string branch;  ///< gets the uncommitted work; without refs/heads/. Other work trees: with "-<label>" behind
  SalvageLimits limits;
};

class CopiedRepository;

class Salvage {
 public:
  /// Copies. Blocking. Throws `not_found` when there is no such folder, `operation_failed` beyond a limit or when the
  /// copy cannot be written, `timed_out`; the text is clean, and nothing is left in `scratch`. A damaged repository is
  /// no error: what cannot be read is left out and counted, down to a commit of the files alone.
  Salvage(const SalvageRequest& request, const Progress& progress, Deadline deadline);
  /// Removes the copy. Streams made by `streams` must be gone.
  ~Salvage();
  Salvage(const Salvage&) = delete;
  Salvage& operator=(const Salvage&) = delete;

  /// Branch -> label of the work tree ("" for the workspace itself): where something was not committed.
  const std::map<std::string, std::string>& uncommitted() const { return uncommitted_; }
  /// For people, cleaned: what was left out and why, at most a few lines.
  const std::vector<std::string>& warnings() const { return warnings_; }
  /// Answers the fetch of `sync_now` from the copy, whatever path it asks for; everything else is refused.
  std::unique_ptr<guest::Streams> streams() const;

 private:
  void commit_work_trees(int workspace, const SalvageRequest& request, CopiedRepository& repository, Deadline deadline);

  fs::path folder_;
  std::map<std::string, std::string> uncommitted_;
  std::vector<std::string> warnings_;
};

/// Gives the commit that a sync landed at `ref` (refs/agentvm/<sandbox>/<branch>) its name among the snapshots of
/// uncommitted work (`label`: of the work tree), or that of a snapshot that holds the same already; `ref` is gone then.
/// Returns the name. Throws as `RefWriter` does.
std::string keep_as_wip(const fs::path& repository, const SandboxName& sandbox, const std::string& ref,
                        const std::string& label, Clock& clock, Deadline deadline);

}  // namespace agentvm::sync
