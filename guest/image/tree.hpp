#pragma once
// Settings of the image, laid over the tree of packages. Runs as root of that tree's user namespace; executes nothing
// of the tree but depmod.

#include <filesystem>
#include <string>
#include <vector>

#include "guest/image/recipe.hpp"
#include "guest/image/sources.hpp"

namespace agentvm {

/// The files of rootfs/, the user agent, masks, the package sources; takes out everything that would be the same in
/// each sandbox and must not be (machine-id, ssh host keys, names, logs, the host's resolv.conf).
void settle_tree(const std::filesystem::path& tree, const Recipe& recipe, const std::vector<PackageSource>& sources);

/// Unpacks the kernel package into `tree` without registering it (the guest boots what the host hands it, so apt in the
/// guest must not install others), indexes its modules, and moves the kernel to `kernel_file`. Returns its version.
std::string unpack_kernel(const std::filesystem::path& tree, const std::filesystem::path& package,
                          const std::filesystem::path& kernel_file);

/// A sparse ext4 file of `size` with the content of `tree`: no loader, no partitions, tables marked as zeroed so that a
/// guest does not write them again.
void make_disk(const std::filesystem::path& tree, const std::filesystem::path& disk, ByteSize size);

}  // namespace agentvm
