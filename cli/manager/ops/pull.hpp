#pragma once
// What comes out of a sandbox for git itself (git-remote-agentvm), and the caps on everything that comes out.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"
#include "sync/gate.hpp"
#include "sync/limits.hpp"
#include "sync/remote.hpp"

namespace agentvm::manager {

/// `sync.*` as the sandbox's project, the user's file and this environment make it.
struct SyncSettings {
  sync::SyncLimits limits;
  sync::GatePolicy gate;
  std::vector<std::string> warnings;  ///< of the gate's keys: what was left out, and why
};
SyncSettings sync_settings(Core& core, const SandboxRecord& record,
                           const std::map<std::string, std::string>& environment = {});

/// Throws `operation_failed` for a folder below our own state: a guest may write the repository there, and its
/// configuration would run programs here. An empty path is fine.
void refuse_guest_repository(const Paths& paths, const fs::path& folder);

/// The repository that `remote.fetch` {git_dir} names. Throws for one that it must not be.
fs::path target_repository(const Paths& paths, const Json& params);

/// A sandbox that was found, and what is asked of it: the answers of `remote.list` and `remote.fetch`.
struct SandboxWork {
  std::string name;
  sync::RemoteRequest request;
};
Json answer_list(const SandboxWork& work, CallContext& call, guest::Streams& streams, Deadline deadline);
Json answer_fetch(const SandboxWork& work, const fs::path& git_dir, CallContext& call, guest::Streams& streams,
                  Deadline deadline);

/// `remote.list` {name, git_dir}: the guest's branches.
Json list_remote(Core& core, CallContext& call, const Json& params);
/// `remote.fetch` {name, git_dir}: checked objects into that repository.
Json fetch_remote(Core& core, CallContext& call, const Json& params);

}  // namespace agentvm::manager
