#pragma once
// Disks of a machine: a qcow2 overlay of its own over a base that is only ever read.

#include <cstdint>
#include <filesystem>

#include "vmm/base/clock.hpp"
#include "vmm/base/sizes.hpp"
#include "vmm/hypervisor.hpp"

namespace agentvm {

/// Creates `overlay` (0600) over `base`. Both formats are written into it, so that nothing ever guesses one from a
/// guest's bytes. `size` is the guest's view; zero means the base's size; less than the base's throws `usage`. An
/// existing file is not overwritten
/// (`wrong_state`); on any error no file is left. Throws `not_found` without the base, `host_lacks` without qemu-img or
/// room.
void create_overlay(const std::filesystem::path& overlay, const std::filesystem::path& base, DiskFormat base_format,
                    ByteSize size, Deadline deadline);

/// An empty qcow2 disk; same rules.
void create_disk(const std::filesystem::path& path, ByteSize size, Deadline deadline);

/// Bytes that `path` takes on the host's disk (not its length); 0 when it is absent.
std::uint64_t allocated_bytes(const std::filesystem::path& path);

}  // namespace agentvm
