#pragma once
// Memory for libgit2: a large block is a mapping of a file without a name in the folder that the child may write, so
// that it takes disk space and address space, and no private memory. libgit2 holds the base of a delta and what it
// makes of it, whole; git makes deltas of files up to core.bigFileThreshold (512 MiB).

#include <cstdint>
#include <string>

namespace agentvm::git {

/// Call before anything else of libgit2, once in a process; one thread. `folder`: private, for files that are gone when
/// their block is; `limit_bytes`: of all large blocks at one time. A block that cannot be had is what it is without
/// this: libgit2 runs out of memory. Throws where libgit2 does not take it.
void keep_large_blocks_on_disk(const std::string& folder, std::uint64_t limit_bytes);

/// Whether a block was refused since the start, by the limit or the system: libgit2 does not say so in each place.
bool ran_out_of_memory();

}  // namespace agentvm::git
