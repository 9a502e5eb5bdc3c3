#include "sync/snapshot.hpp"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <sys/stat.h>

#include "sync/land.hpp"
#include "sync/quarantine.hpp"
#include "sync/ref_writer.hpp"
#include "sync/refs.hpp"
#include "sync/wip.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

/// The folder of a work tree that has no branch stands for it.
std::string label_of(const GuestWorktree& worktree) {
  return branch_label(worktree.branch.empty() ? fs::path(worktree.path).filename().string() : worktree.branch);
}

class Snapshots {
 public:
  Snapshots(const SnapshotRequest& request, guest::Streams& streams, const Progress& progress, Deadline deadline)
      : request_(request),
        streams_(streams),
        progress_(progress),
        deadline_(deadline),
        host_(open_host_repository(request.repository, deadline)),
        git_(host_.worktree) {}

  SnapshotOutcome all() {
    // Not with its parents: a sandbox that was just removed must not come back as an empty folder.
    if (::mkdir(request_.scratch.c_str(), 0700) < 0 && errno != EEXIST) throw_errno(request_.scratch.string());
    ensure_private_dir(request_.scratch);
    const auto lock = FileLock::acquire(request_.scratch / "wip.lock", deadline_);
    // Here, because there may be nothing to fetch: what a killed one was about to keep is kept already.
    sweep_quarantines(request_.scratch);
    sweep_keeps(host_);
    report(progress_, "wip", "looking for uncommitted work");
    const auto taken =
        snapshot_worktrees(streams_, request_.guest_path, request_.guest_store, outcome_.warnings, deadline_);
    known_ = list_wip(git_, request_.sandbox.str(), deadline_);
    std::vector<const GuestSnapshot*> wanted;
    bool any = false;
    for (const auto& snapshot : taken) {
      outcome_.worktrees.push_back(snapshot.worktree);
      if (snapshot.commit.empty()) continue;
      any = true;
      if (!reuse(snapshot)) wanted.push_back(&snapshot);
    }
    if (!wanted.empty()) fetch(wanted);
    RefWriter(host_, git_, deadline_).apply(edits_);
    if (request_.kind == WipKind::timer) prune();
    if (any) forget_store();
    return std::move(outcome_);
  }

 private:
  /// The same files upon the same commit are there already.
  bool reuse(const GuestSnapshot& snapshot) {
    const WipEntry* found = nullptr;
    for (const auto& entry : known_)
      if (entry.tree == snapshot.tree && entry.base == snapshot.worktree.tip && (!found || entry.kind == WipKind::kept))
        found = &entry;
    if (!found) return false;
    if (found->kind == request_.kind || found->kind == WipKind::kept) {
      outcome_.refs.push_back(found->ref);
      return true;
    }
    // Taken by the timer, and from now on to be kept.
    const auto promoted = std::find_if(edits_.begin(), edits_.end(), [&](const auto& edit) {
      return edit.new_tip == found->commit;  // by another work tree in the same state
    });
    if (promoted != edits_.end()) return true;
    const auto name = free_name(parse_wip_name(found->name)->stamp, found->label);
    edits_.push_back({found->ref, "", found->commit});
    edits_.push_back({name, found->commit, ""});
    outcome_.refs.push_back(name);
    return true;
  }

  void fetch(const std::vector<const GuestSnapshot*>& wanted) {
    const auto& sandbox = request_.sandbox.str();
    Quarantine quarantine(request_.scratch, host_, mirror_ref(sandbox, ""), request_.limits, deadline_);
    const auto verdict =
        quarantine.fetch(streams_, request_.guest_store, request_.libexec, Beside::nothing, progress_, deadline_);
    const auto stamp = ref_stamp(request_.clock->unix_seconds());
    for (const auto* snapshot : wanted) {
      const auto tip = verdict.branches.find(std::to_string(snapshot->number));
      if (tip == verdict.branches.end()) {
        outcome_.warnings.push_back(fmt::format("the snapshot of {} was refused{}",
                                                clean_guest_text(snapshot->worktree.path), why(verdict, *snapshot)));
        continue;
      }
      const auto name = free_name(stamp, snapshot->number == 0 ? "" : label_of(snapshot->worktree));
      edits_.push_back({name, tip->second, ""});
      outcome_.refs.push_back(name);
      ++outcome_.made;
    }
    if (outcome_.made > 0 && !verdict.pack.empty()) pack_.emplace(host_, quarantine.objects(), verdict.pack);
    RefWriter(host_, git_, deadline_).apply(std::exchange(edits_, {}));
    pack_.reset();
  }

  static std::string why(const FetchVerdict& verdict, const GuestSnapshot& snapshot) {
    for (const auto& ref : verdict.rejected)
      if (ref.name == std::string(branch_prefix) + std::to_string(snapshot.number))
        return ": it " + clean_guest_text(ref.reason);
    return "";
  }

  /// A moment that is taken (two work trees of one name, two snapshots within a second) gives way to the next.
  std::string free_name(const std::string& stamp, const std::string& label) {
    for (auto time = *stamp_time(stamp);; ++time) {
      const auto plain = WipName{ref_stamp(time), label, WipKind::kept}.str();
      const auto timer = WipName{ref_stamp(time), label, WipKind::timer}.str();
      const auto taken = [&](const std::string& name) {
        const auto ref = mirror_ref(request_.sandbox.str(), "wip/" + name);
        return std::any_of(known_.begin(), known_.end(), [&](const auto& entry) { return entry.ref == ref; }) ||
               std::find(outcome_.refs.begin(), outcome_.refs.end(), ref) != outcome_.refs.end();
      };
      const auto& wanted = request_.kind == WipKind::timer ? timer : plain;
      // Beside its own twin of the timer a kept one may stand: that is the one it replaces.
      if (!taken(plain) && (request_.kind == WipKind::kept || !taken(timer)))
        return mirror_ref(request_.sandbox.str(), "wip/" + wanted);
    }
  }

  void prune() {
    const auto entries = list_wip(git_, request_.sandbox.str(), deadline_);
    std::vector<std::string> timed, in_use;
    for (const auto& entry : entries) {
      if (entry.kind == WipKind::timer) timed.push_back(entry.name);
      if (std::find(outcome_.refs.begin(), outcome_.refs.end(), entry.ref) != outcome_.refs.end())
        in_use.push_back(entry.name);
    }
    const auto doomed = wip_to_prune(timed, in_use, timer_times_limit);
    std::vector<WipEntry> dropped;
    for (const auto& entry : entries)
      if (std::find(doomed.begin(), doomed.end(), entry.name) != doomed.end()) dropped.push_back(entry);
    if (!dropped.empty()) drop_wip(host_, git_, dropped, deadline_);
  }

  /// The work is on the host; what is left in the guest is replaced by the next snapshot at the latest.
  void forget_store() {
    try {
      run_in_guest(streams_, {"rm", "-rf", request_.guest_store}, deadline_);
    } catch (const Error& error) {
      outcome_.warnings.push_back(error.what());
    }
  }

  const SnapshotRequest& request_;
  guest::Streams& streams_;
  const Progress& progress_;
  Deadline deadline_;
  HostRepository host_;
  HostGit git_;
  std::vector<WipEntry> known_;
  std::vector<RefEdit> edits_;
  std::optional<LandedPack> pack_;
  SnapshotOutcome outcome_;
};

}  // namespace

SnapshotOutcome take_snapshots(const SnapshotRequest& request, guest::Streams& streams, const Progress& progress,
                               Deadline deadline) {
  try {
    return Snapshots(request, streams, progress, deadline).all();
  } catch (Error& error) {
    error.while_doing("keeping the uncommitted work of " + request.sandbox.str());
    throw;
  }
}

}  // namespace agentvm::sync
