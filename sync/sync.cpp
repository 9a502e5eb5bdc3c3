#include "sync/sync.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <sys/stat.h>

#include "sync/apart.hpp"
#include "sync/forecast.hpp"
#include "sync/gate_range.hpp"
#include "sync/guest_memory.hpp"
#include "sync/host_tree.hpp"
#include "sync/push.hpp"
#include "sync/quarantine.hpp"
#include "sync/ref_writer.hpp"
#include "sync/tree_locks.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

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
        lock_(take_lock(request, deadline)),
        host_(open_host_repository(request.repository, deadline)),
        git_(host_.worktree) {}

  SyncOutcome all() {
    const auto& sandbox = request_.sandbox.str();
    mirrored_ = refs_below(host_.refs, mirror_ref(sandbox, ""));
    for (const auto& [ref, tip] : refs_below(host_.refs, branch_prefix))
      host_tips_.emplace(ref.substr(branch_prefix.size()), tip);
    const GuestMemory memory(request_.scratch);
    if (auto known = memory.recall(request_.guest_state, sandbox, mirrored_)) {
      verdict_ = std::move(*known);
      recover_references(host_, deadline_);
      sweep_keeps(host_);
    }
    const bool fetches = verdict_.branches.empty();
    Quarantine quarantine(request_.scratch, fetches ? host_ : HostRepository{}, mirror_ref(sandbox, ""),
                          request_.limits, deadline_);
    if (fetches) verdict_ = fetch(quarantine);
    // Questions about commits that are not the host's yet: checked objects in the quarantine may be read like its own.
    asking_ = git_.with_env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quarantine.objects().string());
    outcome_.sandbox = sandbox;
    outcome_.dry_run = request_.dry_run;
    outcome_.objects = verdict_.objects;
    outcome_.bytes = verdict_.bytes;
    outcome_.rejected = verdict_.rejected;
    land(quarantine);
    if (!request_.dry_run && fetches) memory.keep(request_.guest_state, with_known_tags());
    if (request_.move == Move::references_only) return std::move(outcome_);
    const auto seen = observe();
    makes_branch_ = makes_branch();
    follow(seen, quarantine);
    // The other way round: what the user committed meanwhile.
    const bool about_it = !request_.branch || *request_.branch == host_.head_branch;
    if (about_it && (seen.relation == Relation::host_ahead || makes_branch_)) push(quarantine);
    if (outcome_.pushed && outcome_.pushed->done) memory.keep("", {});  // it has other references now
    if (!request_.branch) tell_of_others(quarantine);
    return std::move(outcome_);
  }

 private:
  static FileLock take_lock(const SyncRequest& request, Deadline deadline) {
    ensure_private_dir(request.scratch);
    return FileLock::acquire(request.scratch / "sync.lock", deadline);
  }

  FetchVerdict fetch(Quarantine& quarantine) {
    if (request_.loose)
      if (auto verdict = quarantine.fetch_loose(*request_.loose, request_.libexec, progress_, deadline_)) {
        log::info("sync", "{}: {} loose objects", request_.sandbox.str(), verdict->objects);
        return std::move(*verdict);
      }
    return quarantine.fetch(streams_, request_.guest_path, request_.libexec, Beside::tags, progress_, deadline_);
  }

  bool is_ancestor(const std::string& old_tip, const std::string& new_tip) {
    const auto [known, added] = ancestors_.try_emplace({old_tip, new_tip}, false);
    if (added) known->second = asking_.succeeds({"merge-base", "--is-ancestor", old_tip, new_tip}, deadline_);
    return known->second;
  }

  /// Where the histories of two commits part; empty: they have nothing in common, or there is but one.
  std::string common(const std::string& old_tip, const std::string& new_tip) {
    if (old_tip.empty() || is_ancestor(old_tip, new_tip)) return old_tip;
    return asking_.try_line({"merge-base", old_tip, new_tip}, deadline_).value_or("");
  }

  /// The verdict, and the tags that were here before and therefore did not come.
  FetchVerdict with_known_tags() const {
    auto verdict = verdict_;
    const auto prefix = mirror_ref(request_.sandbox.str(), mirrored_tag_prefix);
    for (const auto& [ref, oid] : mirrored_)
      if (ref.starts_with(prefix)) verdict.tags.try_emplace(ref.substr(prefix.size()), oid);
    return verdict;
  }

  void land(const Quarantine& quarantine) {
    const auto& sandbox = request_.sandbox.str();
    const auto stamp = without_conflicting_stamp(mirrored_, sandbox, request_.clock->unix_seconds());
    const auto plan = plan_landing(
        sandbox, mirrored_, verdict_.branches, verdict_.tags, stamp,
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

  /// Of a branch that both have.
  std::optional<Relation> relation_of(const std::string& branch) {
    const auto host = host_tips_.find(branch);
    const auto guest = verdict_.branches.find(branch);
    if (host == host_tips_.end() || guest == verdict_.branches.end()) return std::nullopt;
    return relation(host->second, guest->second);
  }

  Observation observe() {
    Observation seen;
    seen.host_branch = host_.head_branch;
    seen.host_tip = host_.head;
    seen.host_operation = host_.operation;
    seen.guest_branches = verdict_.branches;
    seen.guest_head = verdict_.head_branch;
    for (const auto& [branch, tip] : host_tips_) seen.host_branches.insert(branch);
    if (request_.branch) seen.elsewhere = relation_of(*request_.branch);
    if (host_.head_branch.empty()) return seen;
    const auto guest = verdict_.branches.find(host_.head_branch);
    if (guest != verdict_.branches.end() && !host_.head.empty()) seen.relation = relation(host_.head, guest->second);
    if (seen.relation == Relation::diverged) seen.rewritten = was_taken_before();
    observe_other(seen);
    const auto subject = subject_branch(seen, request_.branch);
    if (!verdict_.branches.contains(subject)) return seen;
    const auto towards = subject == host_.head_branch ? seen.relation : seen.other.relation;
    if (towards.value_or(Relation::guest_ahead) != Relation::guest_ahead) return seen;
    observe_lock(seen, subject);
    seen.host_clean = tracked_files_are_clean(git_, deadline_);
    seen.in_the_way =
        untracked_in_the_way(asking_, host_.worktree, host_.head, verdict_.branches.at(subject), deadline_);
    return seen;
  }

  /// What git would meet, other than files: by now its own words about it would name no remedy that fits.
  void observe_lock(Observation& seen, const std::string& branch) {
    const auto lock = lock_in_the_way(host_, branch, deadline_);
    if (!lock) return;
    seen.lock = lock->path.string();
    seen.lock_holder = lock->holder;
  }

  /// The branch that the guest is on, where the host is on another one.
  void observe_other(Observation& seen) {
    const auto guest = verdict_.branches.find(seen.guest_head);
    if (guest == verdict_.branches.end() || guest->first == host_.head_branch) return;
    if (const auto mine = host_tips_.find(guest->first); mine != host_tips_.end()) {
      seen.other.relation = relation(mine->second, guest->second);
      seen.other.checked_out_in = checked_out_elsewhere(git_, guest->first, deadline_);
    }
    seen.other.news =
        !asking_
             .line({"rev-list", "--max-count=1", guest->second, "--not", "--branches", "--remotes", "--tags"},
                   deadline_)
             .empty();
  }

  /// Whether the branch in hand is to be made in the sandbox: it never had it, or what it let go of has gone on here.
  bool makes_branch() {
    const auto& branch = host_.head_branch;
    if (branch.empty() || host_.head.empty() || verdict_.branches.contains(branch)) return false;
    const auto ref = std::string(branch_prefix) + branch;
    if (is_reserved_branch(branch) || refname_problem(ref) || is_rejected(ref)) return false;  // could not come back
    const auto before = mirrored_.find(mirror_ref(request_.sandbox.str(), branch));
    return before == mirrored_.end() || !is_ancestor(host_.head, before->second);
  }

  bool is_rejected(const std::string& ref) const {
    return std::any_of(verdict_.rejected.begin(), verdict_.rejected.end(),
                       [&](const RejectedRef& rejected) { return rejected.name == ref; });
  }

  /// Whether the user's tip is something that the guest had on the same branch and has rewritten since.
  bool was_taken_before() {
    constexpr std::size_t looked_at_limit = 16;
    const auto kept = mirror_ref(request_.sandbox.str(), "old/"), name = "/" + host_.head_branch;
    std::vector<std::string> tips;
    for (const auto& change : outcome_.refs)
      if (change.branch == host_.head_branch && !change.kept_as.empty()) tips.push_back(change.old_tip);
    for (auto entry = mirrored_.rbegin(); entry != mirrored_.rend() && tips.size() < looked_at_limit; ++entry)
      if (entry->first.starts_with(kept) && entry->first.substr(entry->first.find('/', kept.size())) == name)
        tips.push_back(entry->second);
    return std::any_of(tips.begin(), tips.end(), [&](const auto& tip) { return is_ancestor(host_.head, tip); });
  }

  void follow(const Observation& seen, const Quarantine& quarantine) {
    const auto change_of = [this](const std::string& branch) {
      return std::find_if(outcome_.refs.begin(), outcome_.refs.end(),
                          [&](const RefChange& ref) { return ref.branch == branch; });
    };
    const auto& sandbox = request_.sandbox.str();
    const bool is_made = makes_branch_ && request_.branch == host_.head_branch;
    if (request_.branch && !is_made && !verdict_.branches.contains(*request_.branch))
      throw Error(ErrorCode::not_found, fmt::format("the sandbox {} has no branch '{}'", sandbox, *request_.branch),
                  host_tips_.contains(*request_.branch)
                      ? fmt::format("git switch {} && agentvm sync {}", shell_word(*request_.branch), sandbox)
                      : fmt::format("git for-each-ref {}", mirror_ref(sandbox, "")));
    auto subject = subject_branch(seen, request_.branch);
    auto decision = decide(seen, sandbox, request_.branch, change_of(subject) != outcome_.refs.end());
    if (decision.action == Action::none && !request_.branch) {
      // Nothing for the branch in hand, but another one brought something: say that instead. A first look at a branch
      // that came from the host, and has not moved, brings nothing.
      const auto other = std::find_if(outcome_.refs.begin(), outcome_.refs.end(), [&](const RefChange& ref) {
        return !ref.branch.empty() && ref.branch != host_.head_branch &&
               !(ref.old_tip.empty() && verdict_.pack.empty());
      });
      if (other != outcome_.refs.end()) {
        auto about_other = seen;
        about_other.elsewhere = relation_of(other->branch);
        about_other.by_the_way = true;
        subject = other->branch;
        decision = decide(about_other, sandbox, subject, true);
      }
    }
    const auto change = change_of(subject);
    outcome_.branch = decision.branch;
    outcome_.reason = decision.reason;
    outcome_.commands = decision.commands;
    outcome_.conflicts = decision.action == Action::refuse_dirty ? seen.in_the_way : std::vector<std::string>{};
    outcome_.new_tip = decision.branch.empty() ? "" : verdict_.branches.at(decision.branch);
    outcome_.old_tip = old_tip_of(decision, change == outcome_.refs.end() ? nullptr : &*change);
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
      case Action::follow:
        outcome_.result = Result::updated;
        break;
    }
    // Uncommitted work is merged with into the branch in hand alone; elsewhere two commits are.
    if (decision.action == Action::refuse_diverged ||
        (decision.action == Action::refuse_dirty && decision.branch == host_.head_branch))
      forecast(quarantine);
    describe_range();
    const bool passes = ask_at_the_gate(decision.action);
    const bool moves = decision.action == Action::fast_forward || decision.action == Action::follow;
    if (moves && passes && !request_.dry_run) move_branch(seen, decision.action);
  }

  /// What the new commits are counted from.
  std::string old_tip_of(const Decision& decision, const RefChange* change) {
    if (decision.branch == host_.head_branch) return host_.head;
    const auto mine = host_tips_.find(decision.branch);
    if (decision.action == Action::follow || decision.action == Action::refuse_diverged ||
        decision.action == Action::refuse_dirty)
      return mine == host_tips_.end() ? host_.head : mine->second;
    return change ? change->old_tip : outcome_.new_tip;
  }

  /// Where the branch stays, what taking the commits would meet.
  void forecast(const Quarantine& quarantine) {
    const auto folder = quarantine.objects().parent_path() / "forecast";
    const auto files = outcome_.branch == host_.head_branch
                           ? forecast_merge(host_, quarantine.objects(), folder, outcome_.new_tip, deadline_)
                           : forecast_commits(trial(quarantine), outcome_.old_tip, outcome_.new_tip, deadline_);
    if (!files) return;
    if (outcome_.result == Result::diverged && !files->empty()) outcome_.result = Result::conflict;
    outcome_.reason += files->empty()
                           ? "; they would merge without a conflict"
                           : fmt::format("; {} file{} would conflict", files->size(), files->size() == 1 ? "" : "s");
    for (const auto& file : *files)
      if (std::find(outcome_.conflicts.begin(), outcome_.conflicts.end(), file) == outcome_.conflicts.end())
        outcome_.conflicts.push_back(file);
  }

  /// Where merges of branches that are not checked out are tried; it sees what both sides have.
  const BareTrial& trial(const Quarantine& quarantine) {
    if (!trial_) {
      auto objects = host_.object_dirs;
      objects.push_back(quarantine.objects());
      trial_.emplace(quarantine.objects().parent_path() / "trial", objects);
    }
    return *trial_;
  }

  /// Lists what the user should see before it enters their tree, whatever happens to the branch; false when that is why
  /// it stays where it is.
  bool ask_at_the_gate(Action action) {
    const auto base = common(outcome_.old_tip.empty() ? host_.head : outcome_.old_tip, outcome_.new_tip);
    ShownGate shown(request_.scratch, outcome_.branch);
    const auto found = search_range(asking_, base, outcome_.new_tip, request_.gate, shown.seen(), deadline_);
    outcome_.gated = found.listed;
    outcome_.gated_count = found.entries.size();
    const bool moves = action == Action::fast_forward || action == Action::follow;
    if (!moves) return true;
    const auto refused =
        shown.refuse(found, {.accept = request_.accept, .listed = request_.listed, .dry_run = request_.dry_run});
    if (!refused) return true;
    const auto& sandbox = request_.sandbox.str();
    outcome_.result = Result::gated;
    outcome_.reason = *refused;
    outcome_.commands = {fmt::format("git diff HEAD...{}", shell_word(mirror_ref(sandbox, outcome_.branch))),
                         fmt::format("agentvm sync {} --accept", sandbox)};
    return false;
  }

  void describe_range() {
    const auto base = outcome_.old_tip.empty() && !host_.head.empty() ? host_.head : outcome_.old_tip;
    outcome_.log = range_log(asking_, base, outcome_.new_tip, deadline_);
    outcome_.commits = outcome_.log.size() < logged_commits_limit
                           ? outcome_.log.size()
                           : range_commits(asking_, base, outcome_.new_tip, deadline_);
    const auto size = range_files(asking_, common(base, outcome_.new_tip), outcome_.new_tip, deadline_);
    outcome_.files_changed = size.files_changed;
    outcome_.insertions = size.insertions;
    outcome_.deletions = size.deletions;
  }

  void move_branch(const Observation& seen, Action action) {
    const bool switches = action == Action::follow;
    report(progress_, "sync-merge", fmt::format("moving {} {}", switches ? "to" : "forward", outcome_.branch));
    const auto mine = host_tips_.find(outcome_.branch);
    const auto refusal = switches
                             ? follow_branch(git_, host_, outcome_.branch, mine == host_tips_.end() ? "" : mine->second,
                                             outcome_.new_tip, deadline_)
                             : fast_forward(git_, host_, outcome_.new_tip, deadline_);
    if (!refusal) {
      outcome_.moved = true;
      if (switches) outcome_.switched_from = host_.head_branch;
      outcome_.reason.clear();
      leave_word_of_the_other_branch(seen);
      return;
    }
    // Somebody worked in the tree between our look and the merge, or git saw what we did not: nothing moved, and that
    // is the user's to decide.
    auto changed = seen;
    changed.host_clean = false;
    observe_lock(changed, outcome_.branch);
    const auto decision = decide(changed, request_.sandbox.str(), request_.branch, true);
    outcome_.result = Result::dirty;
    outcome_.reason = changed.lock.empty() ? refusal->reason : decision.reason;
    outcome_.conflicts = refusal->paths;
    outcome_.commands = decision.commands;
  }

  /// The user's branch had news of its own, and moved; the next sync follows the guest to where it is.
  void leave_word_of_the_other_branch(const Observation& seen) {
    const auto& other = seen.other;
    if (outcome_.branch == seen.guest_head || request_.branch || !other.news || !other.checked_out_in.empty()) return;
    outcome_.reason = fmt::format("the sandbox has gone on to '{}'", seen.guest_head);
    outcome_.commands = {fmt::format("agentvm sync {}", request_.sandbox.str())};
  }

  /// The user's own commits, into the guest's clone.
  void push(const Quarantine& quarantine) {
    Pushed pushed{
        host_.head_branch, makes_branch_ ? "" : verdict_.branches.at(host_.head_branch), host_.head, 0, false, ""};
    std::vector<std::string> known;
    for (const auto& [branch, tip] : verdict_.branches)  // its own first: of many, only some are used to make the pack
      known.insert(branch == verdict_.head_branch ? known.begin() : known.end(), tip);
    pushed.commits = commits_without(asking_, pushed.new_tip, known, deadline_);
    if (!request_.dry_run) {
      report(progress_, "sync-push", fmt::format("sending {} commits to the sandbox", pushed.commits));
      try {
        const PushRequest what{pushed.branch, pushed.old_tip, pushed.new_tip, request_.limits};
        auto answer = push_branch(host_, what, known, request_.guest_path, request_.libexec,
                                  quarantine.objects().parent_path(), streams_, deadline_);
        pushed.done = answer.done;
        pushed.refusal = std::move(answer.refusal);
        // It is known where the guest's branch is now; the next sync has nothing to report then.
        if (pushed.done)
          RefWriter(host_, git_, deadline_)
              .apply({{mirror_ref(request_.sandbox.str(), pushed.branch), pushed.new_tip, pushed.old_tip}});
      } catch (const Error& error) {
        pushed.refusal = error.what();  // what came home stays: the next sync tries again
      }
      if (outcome_.result == Result::up_to_date && pushed.done) outcome_.reason.clear();
    }
    outcome_.pushed = std::move(pushed);
  }

  /// The user's branches that stay apart from the sandbox's: none goes there without having been in hand.
  void tell_of_others(const Quarantine& quarantine) {
    std::set<std::string> passed_over;
    if (outcome_.pushed || verdict_.branches.contains(host_.head_branch)) passed_over.insert(host_.head_branch);
    if (outcome_.exit_code() != 0) passed_over.insert(outcome_.branch);
    for (const auto& [branch, tip] : host_tips_)
      if (is_rejected(std::string(branch_prefix) + branch)) passed_over.insert(branch);
    std::map<std::string, std::string> before;
    const auto prefix = mirror_ref(request_.sandbox.str(), "");
    for (const auto& [ref, tip] : mirrored_) before.emplace(ref.substr(prefix.size()), tip);
    outcome_.apart = find_apart(
        {host_tips_, verdict_.branches, before}, passed_over, asking_,
        [&](const std::string& ours, const std::string& theirs) {
          return forecast_commits(trial(quarantine), ours, theirs, deadline_);
        },
        deadline_);
  }

  const SyncRequest& request_;
  guest::Streams& streams_;
  const Progress& progress_;
  Deadline deadline_;
  FileLock lock_;  ///< before the first look at the repository: another sync may be about to change it
  HostRepository host_;
  HostGit git_;
  HostGit asking_{fs::path{}};
  FetchVerdict verdict_;
  std::map<std::string, std::string> mirrored_;   ///< our references of this sandbox before this sync -> tip
  std::map<std::string, std::string> host_tips_;  ///< the user's branches -> tip
  std::map<std::pair<std::string, std::string>, bool> ancestors_;  ///< what git has answered
  bool makes_branch_ = false;
  std::optional<BareTrial> trial_;
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
