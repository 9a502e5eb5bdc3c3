#include "sync/remote.hpp"

#include <set>

#include "sync/land.hpp"
#include "sync/quarantine.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {

namespace {

constexpr std::size_t gated_branches_limit = 16;

std::vector<GatedPath> findings_of(const RemoteRequest& request, const fs::path& git_dir, const Quarantine& quarantine,
                                   const std::map<std::string, std::string>& branches, Deadline deadline) {
  const auto git = HostGit(git_dir).with_env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quarantine.objects().string());
  const auto head = git.try_line({"rev-parse", "-q", "--verify", "HEAD^{commit}"}, deadline);
  std::vector<GatedPath> all;
  std::set<std::string> known, tips;
  for (const auto& [branch, tip] : branches) {
    if (!tips.insert(tip).second || tips.size() > gated_branches_limit) continue;
    const auto base = head ? git.try_line({"merge-base", *head, tip}, deadline).value_or("") : "";
    for (auto& found : search_range(git, base, tip, request.gate, deadline).listed)
      if (known.insert(found.path).second) all.push_back(std::move(found));
  }
  return all;
}

}  // namespace

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
  delivery.verdict =
      quarantine.fetch(streams, request.guest_path, request.libexec, Beside::detached_head, progress, deadline);
  auto arrived = delivery.verdict.branches;
  if (!delivery.verdict.detached_head.empty()) arrived["HEAD"] = delivery.verdict.detached_head;
  delivery.gated = findings_of(request, git_dir, quarantine, arrived, deadline);
  if (!delivery.verdict.pack.empty() && !arrived.empty())
    delivery.keep = LandedPack(host, quarantine.objects(), delivery.verdict.pack).release();
  return delivery;
}

}  // namespace agentvm::sync
