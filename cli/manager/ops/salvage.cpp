#include "cli/manager/ops/salvage.hpp"

#include <future>

#include <fmt/format.h>

#include "cli/manager/ops/disk_files.hpp"
#include "sync/artifacts/unpack.hpp"
#include "sync/refs.hpp"
#include "sync/salvage.hpp"
#include "sync/sync.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds folder_limit{5 * 60'000};
constexpr milliseconds disk_limit{20 * 60'000};  // all of a workspace comes through an emulated machine

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

/// Reads /workspace of the disk into `workspace`. The sender and the receiver of the archive are a child each, and what
/// went wrong with the one ends the other.
std::uint64_t copy_workspace(Core& core, const SandboxRecord& record, const fs::path& disk, const fs::path& scratch,
                             const fs::path& workspace, const Progress& progress, Deadline deadline) {
  ensure_private_dir(workspace);
  DiskReader reader(disk_read(core, record, disk, scratch), progress, deadline);
  const sync::SalvageLimits limits;
  auto unpacking = std::async(std::launch::async, [&, archive = reader.take_data()]() mutable {
    return sync::unpack_archive(core.paths().libexec, std::move(archive), workspace, {limits.bytes, limits.entries},
                                deadline);
  });
  std::optional<Error> unread;
  try {
    reader.finish(progress, deadline);
  } catch (const Error& error) {
    unread = error;
  }
  const auto unpacked = unpacking.get();
  if (unread) throw Error(*unread);
  if (!unpacked.whole) throw Error(ErrorCode::operation_failed, "the archive from the disk has no end");
  return unpacked.left_out;
}

Rescued salvage_disk(Core& core, const SandboxRecord& record, const Progress& progress, Deadline deadline) {
  const auto folder = core.store().folder(record.name);
  const auto disk = folder / sandbox_files::disk;
  if (!fs::exists(disk)) return {};
  const DiskScratch held(folder / "rescue");
  const auto& scratch = held.path();
  const auto workspace = scratch / "workspace";
  const auto left_out = copy_workspace(core, record, disk, scratch, workspace, progress, deadline);
  auto rescued = from_folder(core, record, workspace, progress, deadline);
  if (left_out != 0)
    rescued.warnings.push_back(fmt::format("{} devices and other special files were left out", left_out));
  return rescued;
}

/// `aside`: the workspace was moved to where it is kept.
Rescued salvage_work(Core& core, const SandboxRecord& record, const Progress& progress, Deadline deadline,
                     bool& aside) {
  const auto workspace = core.store().folder(record.name) / sandbox_files::workspace;
  if (!fs::exists(workspace)) return {};
  try {
    return from_folder(core, record, workspace, progress, deadline);
  } catch (const Error& error) {
    const auto kept = core.paths().state / "kept-workspaces" / (record.name.str() + "-" + record.id.substr(0, 8));
    ensure_private_dir(kept.parent_path());
    if (::rename(workspace.c_str(), kept.c_str()) < 0) throw_errno("keeping " + workspace.string());
    aside = true;
    return {{},
            {fmt::format("the work in its workspace could not be copied ({}); the workspace is kept as {}",
                         clean_guest_text(error.what(), Newlines::escape, 400), kept.string())}};
  }
}

}  // namespace

std::optional<fs::path> keep_disk(Core& core, CallContext& call, const SandboxRecord& record) {
  const auto disk = core.store().folder(record.name) / sandbox_files::disk;
  if (!fs::exists(disk)) return std::nullopt;
  const auto kept = core.kept_disks() / (record.name.str() + "-" + record.id.substr(0, 8) + ".qcow2");
  ensure_private_dir(kept.parent_path());
  write_file_atomic(kept.string() + ".image", record.image_digest + "\n");
  if (::rename(disk.c_str(), kept.c_str()) < 0) throw_errno("keeping the disk");
  call.warning(fmt::format("the disk is kept as {}; agentvm rescue {} ls reads it", kept.string(), record.name.str()));
  return kept;
}

Salvaged salvage(Core& core, CallContext& call, const SandboxRecord& record) {
  const auto progress = call.progress_function();
  Rescued salvaged;
  bool aside = false;
  try {
    salvaged = record.workspace == WorkspaceMode::virtiofs
                   ? salvage_work(core, record, progress, Deadline::after(folder_limit), aside)
                   : salvage_disk(core, record, progress, Deadline::after(disk_limit));
  } catch (const Error& error) {
    if (record.workspace == WorkspaceMode::virtiofs) throw;
    const auto hint = error.hint().empty() ? "" : fmt::format("; `{}` helps", error.hint());
    call.warning(fmt::format("its last run did not end in order, and the work on its disk could not be read ({}{})",
                             clean_guest_text(error.what(), Newlines::escape, 700), hint));
    return {.kept_disk = keep_disk(core, call, record)};
  }
  for (const auto& warning : salvaged.warnings) call.warning(warning);
  return {.refs = std::move(salvaged.refs), .whole = aside || salvaged.warnings.empty()};
}

}  // namespace agentvm::manager
