#include "cli/manager/ops/salvage.hpp"

#include <fmt/format.h>

#include "sync/refs.hpp"
#include "sync/salvage.hpp"
#include "sync/sync.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

Rescued from_folder(Core& core, const SandboxRecord& record, const fs::path& workspace, const Progress& progress,
                    Deadline deadline) {
  const auto folder = core.store().folder(record.name);
  const auto branch = "rescue/" + sync::ref_stamp(system_clock().unix_seconds());
  const sync::Salvage salvage({.workspace = workspace, .scratch = folder / "salvage", .branch = branch}, progress,
                              deadline);
  sync::SyncRequest request{.repository = record.project,
                            .sandbox = record.name,
                            .libexec = core.paths().libexec,
                            .scratch = folder / "sync"};
  request.move = sync::Move::references_only;
  const auto streams = salvage.streams();
  const auto outcome = sync::sync_now(request, *streams, progress, deadline);
  Rescued rescued;
  rescued.warnings = salvage.warnings();
  for (const auto& change : outcome.refs) {
    const auto work = salvage.uncommitted().find(change.branch);
    rescued.refs.push_back(
        work == salvage.uncommitted().end()
            ? change.ref
            : sync::keep_as_wip(record.project, record.name, change.ref, work->second, system_clock(), deadline));
  }
  log::info("rescue", "{}: {} references from the workspace of a guest that is gone", record.name.str(),
            rescued.refs.size());
  return rescued;
}

}  // namespace

Rescued salvage_work(Core& core, const SandboxRecord& record, const Progress& progress, Deadline deadline) {
  const auto workspace = core.store().folder(record.name) / sandbox_files::workspace;
  if (!fs::exists(workspace)) return {};
  try {
    return from_folder(core, record, workspace, progress, deadline);
  } catch (const Error& error) {
    const auto kept = core.paths().state / "kept-workspaces" / (record.name.str() + "-" + record.id.substr(0, 8));
    ensure_private_dir(kept.parent_path());
    if (::rename(workspace.c_str(), kept.c_str()) < 0) throw_errno("keeping " + workspace.string());
    return {{},
            {fmt::format("the work in its workspace could not be copied ({}); the workspace is kept as {}",
                         clean_guest_text(error.what(), Newlines::escape, 400), kept.string())}};
  }
}

}  // namespace agentvm::manager
