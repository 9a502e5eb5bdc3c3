#pragma once
// Snapshots of uncommitted guest work on the host: refs/agentvm/<sandbox>/wip/<name>, plain commits upon the commit
// that they were made on. Only the user's own repository is opened here.

#include <optional>
#include <string>
#include <vector>

#include "sync/host_repository.hpp"
#include "sync/wip_name.hpp"

namespace agentvm::sync {

struct WipEntry {
  std::string sandbox;
  std::string name;  ///< what `find_wip` takes: the reference without refs/agentvm/<sandbox>/wip/
  std::string ref;
  std::int64_t time = 0;
  WipKind kind = WipKind::kept;
  std::string label;   ///< of a work tree besides /workspace; else empty
  std::string branch;  ///< as the guest said; empty: detached. Guest text
  std::string commit, tree;
  std::string base;                 ///< the commit it was made on; empty: before the first one
  std::uint64_t files_changed = 0;  ///< only from `count_files`
};

/// Of one sandbox, or of all that have something in this repository; newest first. Also what versions before this one
/// kept as refs/agentvm/<sandbox>/rescue/<time>.
std::vector<WipEntry> list_wip(const HostGit& git, const std::optional<std::string>& sandbox, Deadline deadline);
void count_files(const HostGit& git, std::vector<WipEntry>& entries, Deadline deadline);

/// By its name or reference; without one the newest. Throws `not_found`.
WipEntry find_wip(const HostGit& git, const std::string& sandbox, const std::optional<std::string>& wanted,
                  Deadline deadline);

struct WipText {
  std::string stat, patch;  ///< guest text, as git prints it
  bool cut = false;         ///< `patch` is only its beginning
};
WipText show_wip(const HostGit& git, const WipEntry& entry, std::size_t limit_bytes, Deadline deadline);

/// Removes the references; the objects are git's to collect. Throws `operation_failed` when one moved meanwhile.
void drop_wip(const HostRepository& host, const HostGit& git, const std::vector<WipEntry>& entries, Deadline deadline);

}  // namespace agentvm::sync
