#pragma once
// The sandbox as a git remote: what git-remote-agentvm asks for. The same quarantine, child and rules as a sync; git
// itself then makes the references in its own namespace.

#include "guest/streams.hpp"
#include "sync/gate_range.hpp"
#include "sync/verdict.hpp"
#include "vmm/base/names.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm::sync {

namespace fs = std::filesystem;

struct RemoteRequest {
  std::string guest_path = "/workspace";
  fs::path libexec;  ///< where agentvm-git is
  fs::path scratch;  ///< a folder of this sandbox and use alone; created when missing
  SyncLimits limits;
  GatePolicy gate;
};

/// The guest's branches as it advertises them: names checked, nothing else known of them yet. Fetches nothing. Throws
/// as `sync_now` does.
FetchVerdict list_remote(const RemoteRequest& request, guest::Streams& streams, const Progress& progress,
                         Deadline deadline);

struct Delivery {
  FetchVerdict verdict;  ///< branches proven complete, and those that are not
  /// The .keep file that protects the new pack from gc until git has made its references and removes it; empty when
  /// nothing was new.
  fs::path keep;
  /// What the branches bring, against the repository's HEAD, that would run or steer something on the host: to be told,
  /// not to be asked about, since nothing of it enters a work tree here.
  std::vector<GatedPath> gated;
  bool all_judged = true;  ///< else so many different tips came that `gated` is about the first of them
};
/// Fetches what the repository with this `git_dir` lacks, judges it, and stores it there. Makes no reference. Throws as
/// `sync_now` does; the repository is then as before.
Delivery deliver_remote(const RemoteRequest& request, const fs::path& git_dir, guest::Streams& streams,
                        const Progress& progress, Deadline deadline);

}  // namespace agentvm::sync
