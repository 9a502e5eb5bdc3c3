#pragma once
// Syncs: asked for by the user, or by the sandbox's own watch.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// `sync` {name, dry_run, accept, branch, env}. Waits for what else is at work on the sandbox.
Json sync_sandbox(Core& core, CallContext& call, const Json& params);
/// The same for a caller that holds the sandbox.
Json sync_held(Core& core, CallContext& call, const Json& params);
/// `sync.next` {name, after}: `agentvm.sync-next/1` {sequence, outcome} of the first sync after the `after`th of this
/// machine, or {ended: true}. With {peek: true} {sequence} of now. A manual sandbox syncs with each commit while it is
/// waited for.
void next_sync(Core& core, const std::shared_ptr<Responder>& call, const Json& params);

/// What a sandbox's watch calls.
SyncWatch::Hooks sync_hooks(Core& core);
/// As the sandbox's record, the user's file and the project say now. Never throws: what cannot be read is the default.
SyncWatch::Settings sync_watch_settings(Core& core, const SandboxName& name);

}  // namespace agentvm::manager
