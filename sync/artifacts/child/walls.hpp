#pragma once
// The walls around the child that writes build products.

#include "sync/artifacts/stream.hpp"

namespace agentvm::sync {

/// From here on: no core file, bounded memory and file size; nothing is reached but what lies beneath `folder` and what
/// is open (Landlock where the kernel can); no program, no socket, and files by openat2 alone (seccomp). Irrevocable.
/// Throws when seccomp cannot be set.
void build_walls(const ArtifactLimits& limits, int folder);

}  // namespace agentvm::sync
