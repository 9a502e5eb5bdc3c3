#pragma once
// The guest's own virtual machines in a control group of their own, with caps on memory and CPU: a machine that takes
// too much is ended by the kernel before what made it suffers.
//
// What holds a machine open is found by its descriptors, whoever started it. This keeps a guest usable; it defends
// against nobody: the guest's root can undo it.

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "vmm/base/json.hpp"

namespace agentvm::guest::agent {

struct NestedLimits {
  std::uint64_t memory_bytes = 0;  ///< 0: no limit
  unsigned cpus = 0;               ///< 0: no limit
};

/// Not thread-safe. The folders are parameters so that tests need no kernel.
class NestedSlice {
 public:
  explicit NestedSlice(std::filesystem::path cgroups = "/sys/fs/cgroup", std::filesystem::path proc = "/proc");
  /// Makes the group and sets its limits; again is harmless. Throws `operation_failed` where cgroup 2 is not mounted or
  /// lacks a controller.
  void set_up(const NestedLimits& limits);
  enum class Take {
    own,    ///< but what libvirt has in groups of its own, where it still puts threads while a machine starts
    every,  ///< of libvirt's, too
  };
  /// Moves the processes that hold a virtual machine open into the group; how many it moved. Never throws for what a
  /// program of the guest does.
  unsigned gather(Take take) const;

 private:
  const std::filesystem::path cgroups_, proc_;
};

/// {"memory_bytes", "cpus", "machines", "ended"}: the caps in force (null: none), processes in the group, and how many
/// the kernel has ended for memory. Null where there is no group.
Json nested_state(const std::filesystem::path& cgroups);

/// Whether the kernel's event (NETLINK_KOBJECT_UEVENT) tells of a new virtual machine. Pure.
bool tells_of_a_machine(std::string_view event);

/// Sets the group up and moves machines into it as they are made, for ever. For a process of its own.
[[noreturn]] void keep_nested_machines(const NestedLimits& limits);

}  // namespace agentvm::guest::agent
