#pragma once
// The state of a machine by way of the emulator's own migration, memory left out.
//
// libvirt has no interface for it: its save images hold the memory, and restoring one makes all of it resident. So the
// monitor is used directly, by these commands: migrate-set-capabilities (x-ignore-shared: memory that others can map
// stays where it is), migrate-set-parameters (max-bandwidth: no throttle), migrate, migrate-incoming, query-migrate.
// The memory is a memfd of the emulator, reached through /proc.

#include "vmm/hypervisor.hpp"
#include "vmm/libvirt/handles.hpp"

namespace agentvm::libvirt {

/// As `Hypervisor::save_state` of the machine whose emulator is the process `pid`.
void save_state(virDomain* domain, int pid, const MachineState& into, Deadline deadline);
/// As `Hypervisor::load_state`.
void load_state(virDomain* domain, int pid, const MachineState& from, Deadline deadline);

}  // namespace agentvm::libvirt
