#pragma once
// The Hypervisor port on libvirt. Theory of operation: README.md in this folder.

#include <filesystem>
#include <memory>
#include <string>

#include "vmm/base/clock.hpp"
#include "vmm/domain_xml.hpp"
#include "vmm/hypervisor.hpp"

namespace agentvm {

/// Where machines run. `uri` is a configuration value or what a sandbox's record pinned.
struct LibvirtConfig {
  std::string uri =
      "auto";  ///< auto (= embed), embed, qemu:///session, qemu:///system, test:///default, or a `Hypervisor::uri()`
  std::filesystem::path root;  ///< the embedded driver's folder; below the state folder
  MachinePlatform platform;    ///< from `find_machine_platform`; unused by test:///default
};

/// The emulator and its firmware on this host; throws `host_lacks` with the package to install.
MachinePlatform find_machine_platform();

/// The library's version, as 9.0.0.
std::string libvirt_version();

/// Opens the driver. Waits until the deadline for another process that holds the embedded root, then throws
/// `wrong_state` with its pid. Throws `usage` for a URI that is not supported and `host_lacks` when a configured daemon
/// does not answer. Embedded: one root per process, held until the process ends; its machines outlive the process.
std::shared_ptr<Hypervisor> open_libvirt(const LibvirtConfig& config, Deadline deadline);

}  // namespace agentvm
