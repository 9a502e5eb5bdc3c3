#pragma once
// What this host has to give, read once per plan.

#include <filesystem>
#include <string>

#include "vmm/base/sizes.hpp"

namespace agentvm {

struct HostFacts {
  ByteSize memory_total;      ///< of the machine, or of the control group where that is less
  ByteSize memory_available;  ///< what can be had without swapping, within the same limits
  unsigned cpus = 1;          ///< that this process may use: affinity and control group quota, rounded up
  std::string boot_id;        ///< changes with every boot of the host
};

/// `root` stands for "/" so that tests can bring their own /proc and /sys; the affinity is always ours. Throws
/// `host_lacks` when /proc/meminfo or the boot id cannot be read; control groups that cannot be read limit nothing. Any
/// thread.
HostFacts read_host_facts(const std::filesystem::path& root = "/");

}  // namespace agentvm
