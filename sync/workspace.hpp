#pragma once
// The sandbox's own copy of the user's project: a full clone that shares nothing with the user's repository, in the
// state the user sees.

#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "guest/streams.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm::sync {

struct SeedRequest {
  struct Identity {
    std::string name, email;
  };
  struct Owner {
    uid_t uid;
    gid_t gid;
  };
  fs::path repository;  ///< the user's work tree (any folder in it)
  fs::path target;      ///< absent or an empty folder; on an error its content is the caller's to remove
  std::optional<std::string>
      branch;  ///< check out this branch; made from HEAD when neither the repository nor a remote has it
  std::optional<Identity> identity;  ///< git_identity: user.name and user.email of the clone
  std::optional<Owner> owner;        ///< everything below (and) the target is given to this owner at the end
};

/// How the user's uncommitted state came along, in files.
struct DirtyCounts {
  std::uint64_t staged = 0, modified = 0, deleted = 0, untracked = 0;
  std::uint64_t total() const { return staged + modified + deleted + untracked; }
};

struct SeedReport {
  std::string branch;  ///< checked out in the clone; empty: detached
  std::string head;    ///< commit id; empty: unborn
  DirtyCounts dirty;
  std::vector<std::string> warnings;  ///< one sentence each: submodules, LFS, a merge in progress, what was left behind
};
Json to_json(const SeedReport& report);

/// Makes the clone. The user's repository is only read: no object, reference, index or file of it changes. Nothing of
/// the host's git configuration enters the clone but remote addresses (without passwords) and upstream branches. Throws
/// `not_found` (no repository, no such branch), `wrong_state` (target not empty), `operation_failed` (bare, shallow,
/// partial, SHA-256, unreadable file), `timed_out`. Blocking; several may run at once on one repository.
SeedReport seed_workspace(const SeedRequest& request, const Progress& progress, Deadline deadline);

/// `--workspace disk`: sends a seeded folder into `guest_path` over an exec, as the guest's agent user, and checks that
/// every entry arrived. Returns the number of entries. Throws `operation_failed` with tar's words.
std::uint64_t stream_workspace(const fs::path& seeded, guest::Streams& streams, const std::string& guest_path,
                               const Progress& progress, Deadline deadline);

}  // namespace agentvm::sync
