#pragma once
#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// `trust.show` {cwd, path, env}: the widening keys of the project's file, what each resolves to and whether it counts.
/// `trust.set` {..., digests: {key: digest}}: trusts exactly what was shown; `decision_needed` when the file or a
/// recipe says something else by now. `trust.remove` {cwd, path}.
void add_trust_operations(Service& service, const std::shared_ptr<Core>& core);

}  // namespace agentvm::manager
