#pragma once
// What is only in a sandbox whose guest is gone, kept before the sandbox goes. ADR 0017, 0018.

#include "cli/manager/ops/rescue.hpp"

namespace agentvm::manager {

struct Salvaged {
  std::vector<std::string> refs;
  std::optional<fs::path> kept_disk;  ///< moved aside
  bool whole = true;                  ///< false: something of it is nowhere but in the sandbox; a warning says what
};

/// For a sandbox without a machine, whose last run did not end in order: what that run left in its workspace lands as
/// `rescue_work` would have landed it. A shared workspace is read where it lies, one on the disk through libguestfs,
/// read-only. What cannot be read is moved aside (the workspace, or the disk), and a warning names the place. Throws
/// when that fails, too.
Salvaged salvage(Core& core, CallContext& call, const SandboxRecord& record);

/// The disk out of the sandbox's folder, with the name of what it stands on: without its image it is nothing.
/// Returns where it is now; nothing where there is none.
std::optional<fs::path> keep_disk(Core& core, CallContext& call, const SandboxRecord& record);

}  // namespace agentvm::manager
