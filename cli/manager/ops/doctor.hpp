#pragma once
#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// `agentvm.doctor/1`: every check, and `ok` when none failed.
Json run_doctor(Core& core, CallContext& call);

}  // namespace agentvm::manager
