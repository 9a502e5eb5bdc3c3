#pragma once
// The embedded driver's root folder: one process at a time, one root per process, its configuration ours.

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "vmm/base/clock.hpp"

namespace agentvm::libvirt {

/// Text of the driver's qemu.conf. `as_root`: the caller's effective uid is 0.
std::string qemu_conf(bool as_root);

/// Takes the root for this process, until it ends (closing a connection does not make libvirt let go), and writes its
/// etc/qemu.conf. Waits until `deadline` for another process to end; then throws `wrong_state` naming it. Throws
/// `wrong_state` when this process holds another root and `operation_failed` when the path is too long for QEMU's
/// monitor sockets. Calling again with the same root does nothing.
void claim_embedded_root(const std::filesystem::path& root, Deadline deadline);

/// While it lives, the XDG variables point below `root`. libvirt's device manager takes its folder from them even in an
/// embedded root, once, at the first open: without this it would need a home folder and leave files there, or in a
/// runtime folder that a logout deletes. Not for use while other threads read the environment.
class PrivateFolders {
 public:
  explicit PrivateFolders(const std::filesystem::path& root);
  ~PrivateFolders();
  PrivateFolders(const PrivateFolders&) = delete;
  PrivateFolders& operator=(const PrivateFolders&) = delete;

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

/// For a thread that starts emulators: whatever it executes gets no capability, even as root. libvirt clears them
/// before the execution, but a program that root executes would get all of the bounding set back. The thread itself
/// keeps its own. Never throws.
void drop_capabilities_of_children() noexcept;

/// Removes the driver's log of a machine when it has grown beyond 1 MiB: libvirt only ever appends to it. Before a
/// start.
void trim_machine_log(const std::filesystem::path& root, const std::string& domain);

/// "qemu:///embed?root=..." with the path percent-encoded.
std::string embedded_uri(const std::filesystem::path& root);

}  // namespace agentvm::libvirt
