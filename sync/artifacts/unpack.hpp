#pragma once
// A folder of a guest's disk, as an archive, becomes a folder of the host: read and written by the child
// `agentvm-artifacts`, whose walls leave it nothing but that folder.

#include "sync/artifacts/stream.hpp"
#include "sync/artifacts/tree_writer.hpp"
#include "vmm/base/clock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::sync {

struct UnpackOutcome {
  bool whole = false;          ///< up to the archive's end; when not, its sender knows why
  std::uint64_t files = 0;     ///< and links
  std::uint64_t left_out = 0;  ///< devices, pipes, and what something else stood in the way of
};
Json to_json(const UnpackOutcome& outcome);
/// Throws `operation_failed` for what our child would not say.
UnpackOutcome unpack_outcome_from(const Json& json);

/// The work of the child. Files get no bit but the owner's to execute; a second name of a file becomes a copy of it;
/// folders are made for what is in them. Throws as `read_tar` and TreeWriter do, and when `source` does before the end
/// of the archive.
UnpackOutcome unpack(ByteSource& source, const ArtifactLimits& limits, TreeWriter& tree);

/// Runs the child: `archive` to its end into `folder`, which exists, is ours and empty. Throws `operation_failed` when
/// the archive is damaged or beyond the limits, `timed_out`; then part of it may be there. The child is dead
/// afterwards, and `archive` closed.
UnpackOutcome unpack_archive(const fs::path& libexec, UniqueFd archive, const fs::path& folder,
                             const ArtifactLimits& limits, Deadline deadline);

}  // namespace agentvm::sync
