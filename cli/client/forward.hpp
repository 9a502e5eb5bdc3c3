#pragma once
// A port of this host's loopback that leads into a guest, for as long as this process runs.

#include <cstdint>
#include <string>

#include "cli/client/connection.hpp"
#include "cli/client/output.hpp"

namespace agentvm::cli {

/// Listens on 127.0.0.1:`host_port` (0: any free one, told to `listening`) and passes each connection to `guest_port`
/// of the sandbox that `params` mean. Returns when a signal ends it, with its number. Throws `host_lacks` when the port
/// is taken, ManagerLost when the manager has gone.
int forward_port(Connection& connection, const Json& params, std::uint16_t host_port, std::uint16_t guest_port,
                 const std::function<void(std::uint16_t)>& listening, Output& output);

}  // namespace agentvm::cli
