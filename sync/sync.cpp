#include "sync/sync.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <sys/stat.h>

#include "sync/forecast.hpp"
#include "sync/gate_range.hpp"
#include "sync/host_tree.hpp"
#include "sync/quarantine.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::sync {
namespace {

std::string without_conflicting_stamp(const std::map<std::string, std::string>& mirrored, const std::string& sandbox,
                                      std::int64_t now) {
  const auto stamp = ref_stamp(now);
  const auto taken = [&](const std::string& candidate) {
    const auto prefix = mirror_ref(sandbox, "old/" + candidate) + "/";
    const auto found = mirrored.lower_bound(prefix);
    return found != mirrored.end() && found->first.starts_with(prefix);
  };
  if (!taken(stamp)) return stamp;
  for (int i = 2;; ++i)  // a second rewrite within one second
    if (const auto candidate = fmt::format("{}-{}", stamp, i); !taken(candidate)) return candidate;
}

/// Step by step, so that each function is one stage of the flow and shares what the stages before it learned.
class Run {
 public:
  Run(const SyncRequest& request, guest::Streams& streams, const Progress& progress, Deadline deadline)
      : request_(request),
        streams_(streams),
        progress_(progress),
        deadline_(deadline),
        host_(open_host_repository(request.repository, deadline)),
        git_(host_.worktree) {}

  SyncOutcome all() {
    ensure_private_dir(request_.scratch);
    const auto lock = FileLock::acquire(request_.scratch / "sync.lock", deadline_);
    const auto& sandbox = request_.sandbox.str();
    Quarantine quarantine(request_.scratch, host_, mirror_ref(sandbox, ""), request_.limits, deadline_);
    verdict_ = quarantine.fetch(streams_, request_.guest_path, request_.libexec, progress_, deadline_);
    // Questions about commits that are not the host's yet: checked objects in the quarantine may be read like its own.
    asking_ = git_.with_env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quarantine.objects().string());
    outcome_.sandbox = sandbox;
    outcome_.dry_run = request_.dry_run;
    outcome_.objects = verdict_.objects;
    outcome_.bytes = verdict_.bytes;
    outcome_.rejected = verdict_.rejected;
    land(quarantine);
    if (request_.move == Move::by_branch_rule) follow(quarantine);
    return std::move(outcome_);
  }

 private:
  bool is_ancestor(const std::string& old_tip, const std::string& new_tip) {
    return asking_.succeeds({"merge-base", "--is-ancestor", old_tip, new_tip}, deadline_);
  }

  void land(const Quarantine& quarantine) {
    const auto& sandbox = request_.sandbox.str();
    const auto mirrored = list_refs(git_, mirror_ref(sandbox, ""), deadline_);
    const auto stamp = without_conflicting_stamp(mirrored, sandbox, request_.clock->unix_seconds());
    const auto plan = plan_landing(
        sandbox, mirrored, verdict_.branches, stamp,
        [this](const std::string& old_tip, const std::string& new_tip) { return is_ancestor(old_tip, new_tip); });
    outcome_.refs = plan.changes;
    outcome_.gone = plan.gone;
    if (request_.dry_run || (plan.changes.empty() && verdict_.pack.empty())) return;
    report(progress_, "sync-land",
           fmt::format("storing {} objects, {} references", verdict_.objects, plan.changes.size()));
    std::optional<LandedPack> pack;
    if (!verdict_.pack.empty() && !plan.changes.empty()) pack.emplace(host_, quarantine.objects(), verdict_.pack);
    update_refs(host_, git_, sandbox, plan, stamp, deadline_);
  }

  Relation relation(const std::string& host, const std::string& guest) {
    if (host == guest) return Relation::same;
    if (is_ancestor(host, guest)) return Relation::guest_ahead;
    return is_ancestor(guest, host) ? Relation::host_ahead : Relation::diverged;
  }

  Observation observe() {
    Observation seen;
    seen.host_branch = host_.head_branch;
    seen.host_tip = host_.head;
    seen.host_operation = host_.operation;
    seen.guest_branches = verdict_.branches;
    seen.guest_head = verdict_.head_branch;
    for (const auto& [ref, tip] : list_refs(git_, "refs/heads/", deadline_))
      seen.host_branches.insert(ref.substr(branch_prefix.size()));
    const auto guest = verdict_.branches.find(host_.head_branch);
    if (host_.head_branch.empty() || guest == verdict_.branches.end()) return seen;
    if (!host_.head.empty()) seen.relation = relation(host_.head, guest->second);
    if (!seen.relation || *seen.relation == Relation::guest_ahead) {
      seen.host_clean = tracked_files_are_clean(git_, deadline_);
      seen.in_the_way = untracked_in_the_way(asking_, host_.worktree, host_.head, guest->second, deadline_);
    }
    return seen;
  }

  void follow(const Quarantine& quarantine) {
    const auto seen = observe();
    const auto change_of = [this](const std::string& branch) {
      return std::find_if(outcome_.refs.begin(), outcome_.refs.end(),
                          [&](const RefChange& ref) { return ref.branch == branch; });
    };
    const auto& sandbox = request_.sandbox.str();
    if (request_.branch && !verdict_.branches.contains(*request_.branch))
      throw Error(ErrorCode::not_found, fmt::format("the sandbox {} has no branch '{}'", sandbox, *request_.branch),
                  fmt::format("git for-each-ref {}", mirror_ref(sandbox, "")));
    auto subject = subject_branch(seen, request_.branch);
    auto decision = decide(seen, sandbox, request_.branch, change_of(subject) != outcome_.refs.end());
    if (decision.action == Action::none && !request_.branch) {
      // Nothing for the branch in hand, but another one brought something: say that instead. A first look at a branch
      // that came from the host, and has not moved, brings nothing.
      const auto other = std::find_if(outcome_.refs.begin(), outcome_.refs.end(), [&](const RefChange& ref) {
        return ref.branch != host_.head_branch && !(ref.old_tip.empty() && verdict_.pack.empty());
      });
      if (other != outcome_.refs.end() && !other->branch.empty())
        decision = decide(seen, sandbox, subject = other->branch, true);
    }
    const auto change = change_of(subject);
    outcome_.branch = decision.branch;
    outcome_.reason = decision.reason;
    outcome_.commands = decision.commands;
    outcome_.conflicts = decision.action == Action::refuse_dirty ? seen.in_the_way : std::vector<std::string>{};
    outcome_.new_tip = decision.branch.empty() ? "" : verdict_.branches.at(decision.branch);
    const bool own = decision.branch == host_.head_branch;
    outcome_.old_tip = own ? host_.head : change != outcome_.refs.end() ? change->old_tip : outcome_.new_tip;
    switch (decision.action) {
      case Action::none:
        outcome_.result = Result::up_to_date;
        return;
      case Action::refs_only:
        outcome_.result = Result::updated;
        break;
      case Action::refuse_dirty:
        outcome_.result = Result::dirty;
        break;
      case Action::refuse_diverged:
        outcome_.result = Result::diverged;
        break;
      case Action::fast_forward:
        outcome_.result = Result::updated;
        break;
    }
    if (decision.action == Action::refuse_dirty || decision.action == Action::refuse_diverged) forecast(quarantine);
    describe_range();
    const bool passes = ask_at_the_gate(decision.action);
    if (decision.action == Action::fast_forward && passes && !request_.dry_run) move_branch(seen);
  }

  /// Where the branch stays, what taking the commits would meet.
  void forecast(const Quarantine& quarantine) {
    const auto folder = quarantine.objects().parent_path() / "forecast";
    const auto files = forecast_merge(host_, quarantine.objects(), folder, outcome_.new_tip, deadline_);
    if (!files) return;
    if (outcome_.result == Result::diverged && !files->empty()) outcome_.result = Result::conflict;
    outcome_.reason += files->empty()
                           ? "; they would merge without a conflict"
                           : fmt::format("; {} file{} would conflict", files->size(), files->size() == 1 ? "" : "s");
    for (const auto& file : *files)
      if (std::find(outcome_.conflicts.begin(), outcome_.conflicts.end(), file) == outcome_.conflicts.end())
        outcome_.conflicts.push_back(file);
  }

  /// Lists what the user should see before it enters their tree, whatever happens to the branch; false when that is why
  /// it stays where it is.
  bool ask_at_the_gate(Action action) {
    auto base = outcome_.old_tip.empty() ? host_.head : outcome_.old_tip;
    if (!base.empty()) base = asking_.try_line({"merge-base", base, outcome_.new_tip}, deadline_).value_or("");
    const auto found = search_range(asking_, base, outcome_.new_tip, request_.gate, deadline_);
    outcome_.gated = found.listed;
    outcome_.gated_count = found.entries.size();
    if (action != Action::fast_forward || found.entries.empty()) return true;
    const ShownGate shown(request_.scratch);
    const auto unseen = request_.accept ? shown.unseen(outcome_.branch, found) : found.entries.size();
    if (request_.accept && unseen == 0) {
      if (!request_.dry_run) shown.forget();
      return true;
    }
    shown.remember(outcome_.branch, found);
    const auto& sandbox = request_.sandbox.str();
    outcome_.result = Result::gated;
    outcome_.reason = request_.accept ? fmt::format("{} of these came after you were asked", unseen)
                                      : fmt::format("{} file{} may run or steer something on your host", unseen,
                                                    unseen == 1 ? "" : "s");
    outcome_.commands = {fmt::format("git diff HEAD...{}", shell_word(mirror_ref(sandbox, outcome_.branch))),
                         fmt::format("agentvm sync {} --accept", sandbox)};
    return false;
  }

  void describe_range() {
    const auto base = outcome_.old_tip.empty() && !host_.head.empty() ? host_.head : outcome_.old_tip;
    const auto size = range_size(asking_, base, outcome_.new_tip, deadline_);
    outcome_.commits = size.commits;
    outcome_.files_changed = size.files_changed;
    outcome_.insertions = size.insertions;
    outcome_.deletions = size.deletions;
    outcome_.log = range_log(asking_, base, outcome_.new_tip, deadline_);
  }

  void move_branch(const Observation& seen) {
    report(progress_, "sync-merge", fmt::format("moving {} forward", outcome_.branch));
    const auto refusal = fast_forward(git_, host_, outcome_.new_tip, deadline_);
    if (!refusal) {
      outcome_.moved = true;
      outcome_.reason.clear();
      return;
    }
    // Somebody worked in the tree between our look and the merge, or git saw what we did not: nothing moved, and that
    // is the user's to decide.
    auto changed = seen;
    changed.host_clean = false;
    const auto decision = decide(changed, request_.sandbox.str(), request_.branch, true);
    outcome_.result = Result::dirty;
    outcome_.reason = refusal->reason;
    outcome_.conflicts = refusal->paths;
    outcome_.commands = decision.commands;
  }

  const SyncRequest& request_;
  guest::Streams& streams_;
  const Progress& progress_;
  Deadline deadline_;
  HostRepository host_;
  HostGit git_;
  HostGit asking_{fs::path{}};
  FetchVerdict verdict_;
  SyncOutcome outcome_;
};

}  // namespace

SyncOutcome sync_now(const SyncRequest& request, guest::Streams& streams, const Progress& progress, Deadline deadline) {
  try {
    return Run(request, streams, progress, deadline).all();
  } catch (Error& error) {
    error.while_doing("sync of " + request.sandbox.str());
    throw;
  }
}

}  // namespace agentvm::sync
