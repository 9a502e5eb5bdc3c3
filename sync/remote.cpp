#include "sync/remote.hpp"

#include "sync/land.hpp"
#include "sync/quarantine.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {

FetchVerdict list_remote(const RemoteRequest& request, guest::Streams& streams, const Progress& progress,
                         Deadline deadline) {
  ensure_private_dir(request.scratch);
  const auto lock = FileLock::acquire(request.scratch / "sync.lock", deadline);
  Quarantine quarantine(request.scratch, {}, "", request.limits, deadline);
  return quarantine.list(streams, request.guest_path, request.libexec, progress, deadline);
}

Delivery deliver_remote(const RemoteRequest& request, const fs::path& git_dir, guest::Streams& streams,
                        const Progress& progress, Deadline deadline) {
  const auto host = open_object_store(git_dir, deadline);
  ensure_private_dir(request.scratch);
  const auto lock = FileLock::acquire(request.scratch / "sync.lock", deadline);
  Quarantine quarantine(request.scratch, host, "refs/remotes/", request.limits, deadline);
  Delivery delivery;
  delivery.verdict = quarantine.fetch(streams, request.guest_path, request.libexec, progress, deadline);
  if (!delivery.verdict.pack.empty() && !delivery.verdict.branches.empty())
    delivery.keep = LandedPack(host, quarantine.objects(), delivery.verdict.pack).release();
  return delivery;
}

}  // namespace agentvm::sync
