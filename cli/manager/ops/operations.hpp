#pragma once
// The operations behind the manager's methods.

#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// Registers every operation. The state folder's lock is held; `service` outlives what is registered. Called once,
/// before `run_manager`.
void register_operations(Service& service, const Paths& paths);

}  // namespace agentvm::manager
