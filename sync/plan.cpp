#include "sync/plan.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sync/refs.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

std::string short_ref(const std::string& sandbox, const std::string& branch) {
  return shell_word(mirror_ref(sandbox, branch));
}

Decision dirty(Decision decision, const Observation& seen, const std::string& sandbox) {
  decision.action = Action::refuse_dirty;
  if (!seen.lock.empty() && !seen.lock_holder.empty()) {
    decision.reason =
        fmt::format("{} is at work in your work tree ({})", seen.lock_holder, clean_guest_text(seen.lock));
    decision.commands = {fmt::format("agentvm sync {}", sandbox)};
  } else if (!seen.lock.empty()) {
    decision.reason = fmt::format("{} is in the way, and no git is at work there: one that was killed left it",
                                  clean_guest_text(seen.lock));
    decision.commands = {fmt::format("rm {} && agentvm sync {}", shell_word(seen.lock), sandbox)};
  } else if (!seen.host_operation.empty()) {
    decision.reason = seen.host_operation + " is in progress in your work tree";
    decision.commands = {"git status", fmt::format("agentvm sync {}", sandbox)};
  } else if (!seen.in_the_way.empty()) {
    decision.reason = fmt::format("{} untracked file{} would be overwritten", seen.in_the_way.size(),
                                  seen.in_the_way.size() == 1 ? "" : "s");
    decision.commands = {fmt::format("git stash --include-untracked && agentvm sync {} && git stash pop", sandbox)};
    // A name that cannot be shown as it is cannot stand in a command either.
    const auto plain = std::find_if(seen.in_the_way.begin(), seen.in_the_way.end(),
                                    [](const auto& name) { return clean_guest_text(name) == name; });
    if (plain != seen.in_the_way.end())
      decision.commands.push_back(fmt::format("mv {0} {0}.mine && agentvm sync {1}", shell_word(*plain), sandbox));
  } else {
    decision.reason = "your work tree has uncommitted changes";
    decision.commands = {fmt::format("git stash && agentvm sync {} && git stash pop", sandbox),
                         fmt::format("git commit -a && agentvm sync {}", sandbox)};
  }
  return decision;
}

bool is_free(const Observation& seen) {
  return seen.host_clean && seen.lock.empty() && seen.host_operation.empty() && seen.in_the_way.empty();
}

Decision diverged(Decision decision, const Observation& seen, const std::string& sandbox) {
  const auto ref = short_ref(sandbox, decision.branch);
  const bool here = decision.branch == seen.host_branch;
  const auto there = here ? "" : fmt::format("git switch {} && ", shell_word(decision.branch));
  decision.action = Action::refuse_diverged;
  decision.reason = fmt::format("your '{}' and the sandbox's have both moved on", clean_guest_text(decision.branch));
  decision.commands = {fmt::format("{}git merge {}", there, ref), fmt::format("{}git rebase {}", there, ref)};
  if (here && seen.rewritten) {
    decision.reason = fmt::format("the sandbox rewrote its '{}', and you have what was there before",
                                  clean_guest_text(decision.branch));
    decision.commands = {fmt::format("git reset --keep {}", ref), fmt::format("git merge {}", ref)};
  }
  return decision;
}

/// The commits are received, and it is the user who goes there.
Decision refs_only(Decision decision, const Observation& seen, const std::string& sandbox) {
  const auto ref = short_ref(sandbox, decision.branch), word = shell_word(decision.branch);
  decision.action = Action::refs_only;
  decision.reason = seen.host_branch.empty()
                        ? "your HEAD is detached, so no branch of yours was moved"
                        : fmt::format("the sandbox works on '{}', you are on '{}'", clean_guest_text(decision.branch),
                                      clean_guest_text(seen.host_branch));
  const bool parted = seen.elsewhere == Relation::diverged;
  decision.commands = {seen.host_branches.contains(decision.branch)
                           ? fmt::format("git switch {} && git merge {}{}", word, parted ? "" : "--ff-only ", ref)
                           : fmt::format("git switch -c {} {}", word, ref),
                       fmt::format("git merge {}", ref)};
  if (decision.branch == seen.guest_head && !seen.other.checked_out_in.empty()) {
    decision.reason = fmt::format("you have '{}' checked out elsewhere", clean_guest_text(decision.branch));
    decision.commands = {fmt::format("git -C {} merge --ff-only {}", shell_word(seen.other.checked_out_in), ref)};
  }
  return decision;
}

/// About a branch that the host does not have checked out.
Decision decide_other(Decision decision, const Observation& seen, const std::string& sandbox, bool is_asked,
                      bool refs_changed) {
  decision.reason = "nothing new";
  const bool follows = !seen.host_branch.empty() && decision.branch == seen.guest_head;
  if (!follows && is_asked && !seen.by_the_way && seen.elsewhere == Relation::diverged)
    return diverged(std::move(decision), seen, sandbox);
  if (!follows) return refs_changed ? refs_only(std::move(decision), seen, sandbox) : decision;
  const auto relation = seen.other.relation;
  if (relation ? *relation == Relation::same || *relation == Relation::host_ahead : !seen.other.news) return decision;
  if (relation == Relation::diverged) return diverged(std::move(decision), seen, sandbox);
  if (!seen.other.checked_out_in.empty())
    return refs_changed ? refs_only(std::move(decision), seen, sandbox) : decision;
  if (!is_free(seen)) return dirty(std::move(decision), seen, sandbox);
  decision.reason.clear();
  decision.action = Action::follow;
  return decision;
}

}  // namespace

std::string subject_branch(const Observation& seen, const std::optional<std::string>& asked) {
  if (asked) return seen.guest_branches.contains(*asked) ? *asked : "";
  const bool guest_has_it = !seen.host_branch.empty() && seen.guest_branches.contains(seen.host_branch);
  const bool news = guest_has_it &&
                    (!seen.relation || *seen.relation == Relation::guest_ahead || *seen.relation == Relation::diverged);
  if (!news && seen.guest_branches.contains(seen.guest_head)) return seen.guest_head;
  return guest_has_it ? seen.host_branch : "";
}

Decision decide(const Observation& seen, const std::string& sandbox, const std::optional<std::string>& asked,
                bool refs_changed) {
  Decision decision;
  decision.branch = subject_branch(seen, asked);
  if (decision.branch.empty()) {
    decision.reason = asked ? fmt::format("the sandbox has no branch '{}'", clean_guest_text(*asked))
                            : "the sandbox has no commits on a branch yet";
    return decision;
  }
  if (decision.branch != seen.host_branch)
    return decide_other(std::move(decision), seen, sandbox, asked.has_value(), refs_changed);
  const auto relation = seen.relation.value_or(Relation::guest_ahead);  // an unborn host branch: everything is new
  if (relation == Relation::same || relation == Relation::host_ahead) {
    decision.reason =
        relation == Relation::same ? "nothing new" : "your branch has everything the sandbox has, and more";
    return decision;
  }
  if (relation == Relation::diverged) return diverged(std::move(decision), seen, sandbox);
  if (!is_free(seen)) return dirty(std::move(decision), seen, sandbox);
  decision.action = Action::fast_forward;
  return decision;
}

}  // namespace agentvm::sync
