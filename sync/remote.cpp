#include "sync/remote.hpp"

#include <algorithm>
#include <set>

#include "sync/land.hpp"
#include "sync/quarantine.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {

namespace {

constexpr std::size_t gated_tips_limit = 64;

/// The tips that git may check out next, the likeliest first: what a clone checks out is not hidden behind other names.
std::vector<std::string> tips_in_order(const FetchVerdict& verdict) {
  std::vector<std::string> tips;
  const auto add = [&](const std::string& tip) {
    if (!tip.empty() && std::find(tips.begin(), tips.end(), tip) == tips.end()) tips.push_back(tip);
  };
  add(verdict.detached_head);
  if (const auto head = verdict.branches.find(verdict.head_branch); head != verdict.branches.end()) add(head->second);
  std::set<std::string> others;
  for (const auto& [branch, tip] : verdict.branches)
    if (others.insert(tip).second && tips.size() <= gated_tips_limit) add(tip);
  return tips;
}

void judge(const RemoteRequest& request, const fs::path& git_dir, const Quarantine& quarantine, Delivery& delivery,
           Deadline deadline) {
  const auto git = HostGit(git_dir).with_env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quarantine.objects().string());
  const auto head = git.try_line({"rev-parse", "-q", "--verify", "HEAD^{commit}"}, deadline);
  std::set<std::string> known;
  auto tips = tips_in_order(delivery.verdict);
  delivery.all_judged = tips.size() <= gated_tips_limit;
  tips.resize(std::min(tips.size(), gated_tips_limit));
  for (const auto& tip : tips) {
    const auto base = head ? git.try_line({"merge-base", *head, tip}, deadline).value_or("") : "";
    for (auto& found : search_range(git, base, tip, request.gate, {}, deadline).listed)
      if (known.insert(found.path).second) delivery.gated.push_back(std::move(found));
  }
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
  judge(request, git_dir, quarantine, delivery, deadline);
  const bool arrived = !delivery.verdict.branches.empty() || !delivery.verdict.detached_head.empty();
  if (!delivery.verdict.pack.empty() && arrived)
    delivery.keep = LandedPack(host, quarantine.objects(), delivery.verdict.pack).release();
  return delivery;
}

}  // namespace agentvm::sync
