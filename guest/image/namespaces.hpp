#pragma once
// Where an image is put together: own mount and process namespaces, and for users a user namespace with a range of ids.
// Whatever kills the builder takes all of it along: no mount and no process stays.

#include <string>
#include <vector>

#include "vmm/base/process.hpp"

namespace agentvm {

/// The command that runs `argv` as root of such namespaces. Throws `host_lacks` with the remedy when the host has no
/// unshare, or the user has no subordinate ids or no newuidmap.
std::vector<std::string> in_namespaces(std::vector<std::string> argv);

}  // namespace agentvm
