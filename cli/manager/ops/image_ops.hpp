#pragma once
#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// `image.build`, `image.list`, `image.inspect`, `image.remove`, `image.prune`.
void add_image_operations(Service& service, const std::shared_ptr<Core>& core);

}  // namespace agentvm::manager
