#pragma once
// The state of a machine by way of the emulator's own migration, memory apart.
//
// libvirt has no interface for it: its save images hold the memory as a stream, and restoring one makes all of it
// resident. So the monitor is used directly, by these commands: migrate-set-capabilities, migrate-set-parameters
// (max-bandwidth: no throttle), migrate, migrate_cancel, migrate-incoming, query-migrate. Two ways, by what the
// emulator knows:
// - x-ignore-shared, before QEMU 8.1: memory that others can map is left out of the stream. It is a memfd of the
//   emulator, reached through /proc, and copied by us. (From 8.1 on it is left out only when it has a file name,
//   migration/ram.c.)
// - mapped-ram, from QEMU 9.0 on (docs/devel/migration/mapped-ram.rst): the emulator writes each page at its own place
//   of the file, what is zero not at all, and the devices behind them. The file of the devices then has one word.

#include "vmm/hypervisor.hpp"
#include "vmm/libvirt/handles.hpp"

namespace agentvm::libvirt {

/// Whether `emulator` can do either; false as well when it does not tell its version.
bool can_save_state(const std::filesystem::path& emulator, Deadline deadline);
/// As `Hypervisor::save_state` of the machine whose emulator is the process `pid`.
void save_state(virDomain* domain, int pid, const MachineState& into, Deadline deadline);
/// For a machine that is to go on: ends a transfer that the emulator is still at, whose manager did not live to see it.
/// Otherwise the machine would stop once more as soon as all was written.
void end_transfer(virDomain* domain, Deadline deadline);
/// As `Hypervisor::load_state`.
void load_state(virDomain* domain, int pid, const MachineState& from, Deadline deadline);

}  // namespace agentvm::libvirt
