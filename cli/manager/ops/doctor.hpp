#pragma once
#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// `agentvm.doctor/1`: every check, and `ok` when none failed. With `nested` in `params` a guest is started, too.
Json run_doctor(Core& core, CallContext& call, const Json& params);

}  // namespace agentvm::manager
