#pragma once
// A throw-away folder into which the `agentvm-git` child fetches. It disappears with this object, or at the next sync
// when we were killed.

#include <filesystem>
#include <string>

#include "guest/streams.hpp"
#include "sync/host_repository.hpp"
#include "sync/loose_source.hpp"
#include "sync/verdict.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm::sync {

/// What comes along with the guest's branches.
enum class Beside { nothing, tags, detached_head };

class Quarantine {
 public:
  /// Creates `scratch`/quarantine-<random>, with the host's objects as alternates and its commits as haves (a host
  /// without object folders: none).
  /// `mirror_prefix` names this sandbox's own references: their tips are offered first. Folders that a killed sync left
  /// in `scratch` are removed before: the caller holds the lock on `scratch`.
  Quarantine(const fs::path& scratch, const HostRepository& host, const std::string& mirror_prefix,
             const SyncLimits& limits, Deadline deadline);
  ~Quarantine();
  Quarantine(const Quarantine&) = delete;
  Quarantine& operator=(const Quarantine&) = delete;

  /// Runs git-upload-pack in the guest and the child here, and returns the child's verdict. Throws the refusal as
  /// `operation_failed` (or `timed_out`); the child is dead then.
  FetchVerdict fetch(guest::Streams& streams, const std::string& guest_path, const fs::path& libexec, Beside beside,
                     const Progress& progress, Deadline deadline);

  /// The same from loose objects, without git in the guest: branches and tags. Nothing where that does not do, for
  /// whatever reason (too many, one is in a pack, one is refused): what `fetch` then says of it counts.
  std::optional<FetchVerdict> fetch_loose(const LooseSource& source, const fs::path& libexec, const Progress& progress,
                                          Deadline deadline);

  /// The same up to the advertisement: the names of its branches and a detached HEAD, and nothing fetched.
  FetchVerdict list(guest::Streams& streams, const std::string& guest_path, const fs::path& libexec,
                    const Progress& progress, Deadline deadline);

  fs::path objects() const { return folder_ / objects_dir; }

 private:
  FetchVerdict converse(guest::Streams& streams, const std::string& guest_path, const fs::path& libexec,
                        Deadline deadline);
  Deadline write_request(Deadline deadline) const;

  fs::path folder_;
  FetchRequest request_;
  SyncLimits limits_;
};

/// Removes what killed syncs left in `scratch`.
void sweep_quarantines(const fs::path& scratch);

}  // namespace agentvm::sync
