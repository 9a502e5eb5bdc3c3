#pragma once
// What is ours on this host and belongs to no sandbox any more.

#include "cli/manager/ops/doctor_checks.hpp"
#include "cli/manager/ops/running.hpp"

namespace agentvm::manager {

struct Leftovers {
  std::vector<OrphanMachine> machines;
  std::vector<fs::path> folders;  ///< of sockets whose sandbox is gone
};
/// Those of the state folder. A broken record's sandbox counts as one: nothing of it is among these.
Leftovers find_leftovers(Core& core);

/// With `fix`, ends and removes them. Throws for the first that cannot be.
Check check_leftovers(Core& core, bool fix);

}  // namespace agentvm::manager
