#pragma once
// How much a guest put into the folder that it shares.

#include <cstdint>
#include <filesystem>

#include "vmm/base/clock.hpp"

namespace agentvm {

struct TreeGrowth {
  std::uint64_t bytes = 0;   ///< allocated by what was changed since
  std::uint64_t inodes = 0;  ///< of it
  bool complete = true;      ///< false: there was more than could be looked at in time
};

/// What was changed below `folder` since that moment (seconds since 1970, compared with the change time, which no guest
/// sets), and what `server` (the daemon that shares it; 0: none) still holds open though it was removed. Looks as the
/// namespace's root, whom no folder's mode keeps out; follows no link and stays on the file system. A folder that is
/// gone has not grown. Throws `host_lacks` where there are no user namespaces. Any thread.
TreeGrowth tree_growth(const std::filesystem::path& folder, std::int64_t since, int server, milliseconds limit);

}  // namespace agentvm
