#pragma once
// The walls around the child: limits, no new privileges, Landlock where the kernel has it, a seccomp allow-list.

#include <string>
#include <vector>

#include "sync/limits.hpp"

namespace agentvm::git {

/// Memory, processor time, file size, descriptors, no core file. Before libgit2 starts.
void limit_resources(const sync::SyncLimits& limits);
/// From here on only `read_only` folders can be read, and only `writable` written; anything that is not plain file work
/// ends the process. Irrevocable. Throws when seccomp cannot be set; a kernel without Landlock is accepted (the rest
/// holds).
void confine(const std::vector<std::string>& read_only, const std::string& writable);

}  // namespace agentvm::git
