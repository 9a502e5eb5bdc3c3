#pragma once
// What init does to the machine itself: mounts, modules, devices, network, clock, power. Linux calls, no shell.

#include <filesystem>
#include <optional>
#include <string>

#include "guest/protocol/identity.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::guest::agent {

/// Throws with the file system's name. Creates the folder; being mounted already is success.
void mount_or_throw(const char* source, const std::string& target, const char* type, unsigned long flags,
                    const char* options = "");
/// The value of NAME=value in /proc/cmdline.
std::optional<std::string> kernel_argument(const std::string& name);
/// Loads each file named in `list` in order. A line is a path, absolute or relative to the list's folder; '-' before
/// it: may be absent. A module that cannot be loaded is reported on the console and skipped: the device that is then
/// missing gives the error.
void load_modules(const std::filesystem::path& list);
/// The virtio-serial port of that name, opened; throws `timed_out`.
UniqueFd open_agent_port(const std::string& name, Deadline deadline);
void wait_for_path(const std::string& path, Deadline deadline);

void configure_loopback();
/// The first NIC with a device behind it; throws naming the step.
void configure_network(const GuestNetwork& network, Deadline deadline);
void set_clock(std::int64_t unix_ns);
void set_hostname(const std::string& hostname);
/// Mounts or makes `root`/workspace.
void prepare_workspace(const std::filesystem::path& root, const Identity& identity);
/// "kvm_amd", "kvm_intel", or nothing: what /proc/cpuinfo offers.
std::optional<std::string> kvm_module();
std::string boot_id();
/// sync and power off; does not return on a real machine.
[[noreturn]] void power_off_now();

}  // namespace agentvm::guest::agent
