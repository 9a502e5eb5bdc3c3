#pragma once
// What is only in the workspace of a sandbox whose guest is gone, kept before the sandbox goes. ADR 0017.

#include "cli/manager/ops/rescue.hpp"

namespace agentvm::manager {

/// For a sandbox with a shared workspace and no machine: what its last run left there lands as `rescue_work` would have
/// landed it. Where that fails the workspace is moved aside, and a warning names the place. Throws when that fails,
/// too.
Rescued salvage_work(Core& core, const SandboxRecord& record, const Progress& progress, Deadline deadline);

/// The same for one whose workspace is on its disk: read there, read-only, through libguestfs (ADR 0018). Throws, with
/// clean text, when that fails: the disk is then as it was, and all there is.
Rescued salvage_disk(Core& core, const SandboxRecord& record, const Progress& progress, Deadline deadline);

}  // namespace agentvm::manager
