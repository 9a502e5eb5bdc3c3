#pragma once
// The user's own commits go into the sandbox's clone, by a connection that the host opened. ADR 0014.

#include "guest/streams.hpp"
#include "sync/host_repository.hpp"
#include "sync/verdict.hpp"

namespace agentvm::sync {

/// Sends `request.branch` of `host`, a fast-forward of the guest's branch of that name, whose tip is `old_tip`, or a
/// branch that the guest does not have. The pack is made by the host's git in `folder` (private, existing); the
/// confined child does the talking. The guest's git moves its branch, and where the branch is checked out the work tree
/// with it, if that is clean; else it refuses, and nothing of the guest's changes. `known`: what the guest has besides
/// (commits that the host has, too). Throws `operation_failed` or `timed_out` when the conversation fails.
PushAnswer push_branch(const HostRepository& host, const PushRequest& request, const std::vector<std::string>& known,
                       const std::string& guest_path, const fs::path& libexec, const fs::path& folder,
                       guest::Streams& streams, Deadline deadline);

}  // namespace agentvm::sync
