#pragma once
// Copies of files that are mostly holes: guest memory and young disks.

#include <cstdint>
#include <filesystem>

#include "vmm/base/clock.hpp"

namespace agentvm {

/// Makes `into` (a regular file or memory that is empty or of the same length) read like `from`, which is a regular
/// file or memory, too. Blocks of 4096 bytes that are zero become holes; what `into` held before is gone. Returns the
/// bytes that were copied. Throws `timed_out`, and `host_lacks` without room; then `into` holds anything.
std::uint64_t copy_sparse(int from, int into, Deadline deadline);

/// The same for a file that does not exist yet (0600); on an error none is left. On file systems that can, the blocks
/// are shared until one of both changes. Throws `not_found` without `from`.
void copy_sparse_file(const std::filesystem::path& from, const std::filesystem::path& into, Deadline deadline);

}  // namespace agentvm
