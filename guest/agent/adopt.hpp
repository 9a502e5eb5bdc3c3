#pragma once
// How a machine that went on from a template becomes one sandbox's guest, in its running userspace.
//
// Everything that a template gave to all who came from it is replaced before anybody may come in: what the kernel
// draws random numbers from first, because all else may draw some; the way in last. What runs since before (systemd and
// its services) keeps its addresses in memory, which are the template's.

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "guest/protocol/identity.hpp"

namespace agentvm::guest::agent {

/// What is done to the machine besides its files. All must be set.
struct AdoptionSteps {
  std::function<void(std::string_view entropy)> reseed;
  std::function<void(std::int64_t unix_ns)> set_clock;
  std::function<void(const std::string& hostname)> set_hostname;
  std::function<void(const std::filesystem::path& file)> show_boot_id;  ///< in place of the kernel's
  std::function<void(const GuestNetwork&)> configure_network;
  std::function<void(const Identity&)> begin_workspace;  ///< need not wait for the device
  std::function<void(const Identity&)> begin_nested;     ///< where it is wanted
  std::function<void()> open_way_in;                     ///< sshd
};

/// Those of this machine.
AdoptionSteps machine_adoption();

/// Applies all of `identity` below `root` and returns the machine's new boot id. Throws naming the step; then the
/// machine is nobody's and must end. `usage` for an identity without the host's random bytes or without keys.
std::string adopt_identity(const std::filesystem::path& root, const Identity& identity, const AdoptionSteps& steps);

/// Mixes the host's random bytes into the kernel's pool, counts them as good, and has the kernel draw from it at once.
void reseed_kernel(std::string_view entropy);

}  // namespace agentvm::guest::agent
