#pragma once
// `rescue`: files on the disk of a sandbox that does not run, or of one that was kept when its sandbox went. The disk
// is only read, behind the walls of `DiskReader`.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"
#include "guest/image/disk_reader.hpp"

namespace agentvm::manager {

/// A folder for one read of a disk: empty at first, removed with what is in it.
class DiskScratch {
 public:
  explicit DiskScratch(fs::path path);
  ~DiskScratch();
  DiskScratch(const DiskScratch&) = delete;
  DiskScratch& operator=(const DiskScratch&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// The read of a sandbox's disk at `disk`. Throws `not_found` when its image is gone.
DiskRead disk_read(Core& core, const SandboxRecord& record, const fs::path& disk, const fs::path& scratch);

/// `rescue.ls` {name, path}: {"entries": [{name, kind, mode, uid, gid, size, modified, target}]}, by name.
Json list_disk_files(Core& core, CallContext& call, const Json& params);
/// `rescue.cat` {name, path}: the file's bytes go to the client as its only stream.
Json print_disk_file(Core& core, CallContext& call, const Json& params);
/// `rescue.cp` {name, path, to}: a file or a folder becomes `to`, which must not exist, or `to`/NAME where that is a
/// folder. Repositories in it are made inert: see `sync::disarm_repositories`.
Json copy_disk_files(Core& core, CallContext& call, const Json& params);

}  // namespace agentvm::manager
