#pragma once
// Following a sandbox's syncs in the foreground.

#include <functional>

#include "cli/client/connection.hpp"
#include "cli/client/output.hpp"

namespace agentvm::cli {

/// Calls `show` with every sync after the `after`th of the sandbox that `params` names, until a signal (its number) or
/// the end of the sandbox (0). A manager that ends is followed by the next one.
int follow_syncs(const Paths& paths, Json params, std::uint64_t after, const std::function<void(const Json&)>& show,
                 Output& output);

}  // namespace agentvm::cli
