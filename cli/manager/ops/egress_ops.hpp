#pragma once
// The operations behind `agentvm egress`: what was decided, what would be, and the rules of one sandbox.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// egress.log, egress.check, egress.allow, egress.deny, egress.suggest.
void add_egress_operations(Service& service, const std::shared_ptr<Core>& core);

/// `[{rule, since, connections}]`: what connections wait for the user to decide, the oldest first; 16 at most. `rule`
/// is what `agentvm egress allow` takes for it.
Json waiting_names(Core& core, const SandboxRecord& record);

/// `{mode, exposes, open, allowed, denied, failed, caps, ask, waiting}` for `status`; the counts are of the journal,
/// null where it is not open.
Json egress_status(Core& core, const SandboxRecord& record);

/// `{mode, exposes, ask, upstream, rules, secrets, caps, decoys, warnings}` for `plan`: the plan's lists and what
/// `existing` was given by itself.
Json egress_plan(Core& core, const Plan& plan, const std::optional<SandboxRecord>& existing);

/// `{rules, warnings}` for `config show`.
Json egress_config(const Config& config);

}  // namespace agentvm::manager
