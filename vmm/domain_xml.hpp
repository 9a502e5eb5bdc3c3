#pragma once
// A machine's definition as libvirt's XML: a pure function of the specification. Golden files in
// tests/unit/virt/golden.

#include <filesystem>
#include <optional>
#include <string>

#include "vmm/hypervisor.hpp"

namespace agentvm {

/// What the host provides for every machine.
struct MachinePlatform {
  std::filesystem::path emulator;  ///< qemu-system-x86_64
  std::filesystem::path firmware;  ///< qboot.rom: starts a kernel directly, in milliseconds
  /// Whether the firmware can place QEMU's generation-id device. qboot cannot: it hangs before its first output (the
  /// ACPI tables then need a loader command that it does not know). Without it `MachineSpec::generation_id` has no
  /// effect.
  enum class GenerationId { unsupported, supported } generation_id = GenerationId::unsupported;
  struct Owner {
    unsigned uid, gid;
  };
  /// Whom a daemon that serves many users runs the emulator as: the files of a machine are this user's alone. Unset: as
  /// the driver's configuration says.
  std::optional<Owner> owner = {};
};

/// The namespace of our element in `<metadata>`.
inline constexpr const char* metadata_namespace = "https://agentvm.org/domain/1";
/// The name of the virtio-serial port that the guest's agent opens.
inline constexpr const char* agent_port_name = "org.agentvm.agent.0";

/// Throws `usage` naming the field when a value cannot be put into a definition: a domain name with other characters
/// than [A-Za-z0-9._-], an id that is no UUID, control characters or invalid UTF-8 anywhere, a relative path, a tag
/// over 36 bytes, a disk serial over 20 characters, more than 8 disks or shares, no memory, no port; and
/// `operation_failed` for a socket path that is too long.
void check_machine_spec(const MachineSpec& spec);

/// The definition for QEMU. Checks first (`check_machine_spec`). Same input, same text.
std::string domain_xml(const MachineSpec& spec, const MachinePlatform& platform);

/// The device for a share of a machine that runs already, in the first of its spare ports. Checks first.
std::string plugged_share_xml(const ShareSpec& spec);

/// The same machine for libvirt's built-in test driver, which knows no emulator, firmware or user network.
std::string test_domain_xml(const MachineSpec& spec);

}  // namespace agentvm
