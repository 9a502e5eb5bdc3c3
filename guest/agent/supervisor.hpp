#pragma once
// The long-lived agent: a supervisor that holds the port and a worker that serves it.

#include <optional>

#include "guest/agent/nested_slice.hpp"
#include "guest/agent/server.hpp"

namespace agentvm::guest::agent {

/// Options of a server that runs in the guest proper: time, hostname, power off.
void fill_running_options(ServerOptions& options);

/// Loads KVM, gives it to the agent user and looks after the machines made with it, in a process of its own: the
/// module's start-up must not delay anything that the host waits for.
void start_kvm(const NestedLimits& limits);

/// Runs for ever in the calling process, which should be a fork of init. `server` (with the bytes it has read so far)
/// goes to the first worker; a worker that dies is replaced by a fresh one, to which the host says hello anew.
/// `nested`: load KVM, give it to the agent, and keep the machines made with it within these limits.
[[noreturn]] void supervise(int port, Server& server, const std::optional<NestedLimits>& nested);

}  // namespace agentvm::guest::agent
