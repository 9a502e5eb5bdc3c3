#pragma once
// `run`: a sandbox for one command.
//
// Job: start it, run the command with the client's streams, sync, and remove it again - also when client, guest or
// manager is gone in the middle. Not its job: each of these steps. What a run made is marked in its record
// (`throw_away`) before anything of it exists; whoever finds such a record without its run ends it: the manager, after
// a start that failed, after the command, and when it takes over (`end_left_runs`). Threads: the start runs on the
// request's thread, the end on the janitor's.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/service.hpp"
#include "vmm/plan.hpp"

namespace agentvm::manager {

/// `run` {cwd, env, path, flags, keep, and what `exec` takes}: `agentvm.run/1` {name, kept, sync, rescued, references,
/// clone, problem} after the end of the command, whose status is told by the event "ended". `problem` is what went
/// wrong after it. With a name among the flags, or `keep`, the sandbox stays, running.
void run_in_sandbox(Core& core, const std::shared_ptr<Responder>& call, const Json& params);

/// What `run` would do: `plan` is that of its sandbox, `run` is {argv, kept, repository}. `asked` is {argv, task, keep,
/// repository: null or {url, name, head}}; one without argv and task plans the sandbox alone. Makes nothing.
struct PlannedRun {
  Plan plan;
  Json run;
};
PlannedRun plan_run(Core& core, ClientSetting setting, const Json& asked);

/// Ends what runs of an earlier manager left; returns at once. Call when reconciling is done.
void end_left_runs(Core& core);

}  // namespace agentvm::manager
