#include "sync/plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/land.hpp"

namespace agentvm::sync {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Observation on_main(Relation relation) {
  Observation seen;
  seen.host_branch = "main";
  seen.host_tip = "h";
  seen.host_branches = {"main", "feature"};
  seen.guest_branches = {{"main", "g"}, {"feature", "f"}};
  seen.guest_head = "main";
  seen.relation = relation;
  return seen;
}

Action action(const Observation& seen, bool changed = true) {
  return decide(seen, "box", std::nullopt, changed).action;
}

TEST(Plan, FastForwardsOnlyACleanDescendant) {
  EXPECT_EQ(action(on_main(Relation::guest_ahead)), Action::fast_forward);
  EXPECT_EQ(action(on_main(Relation::same)), Action::none);
  EXPECT_EQ(action(on_main(Relation::host_ahead)), Action::none);
  EXPECT_EQ(action(on_main(Relation::diverged)), Action::refuse_diverged);
}

TEST(Plan, AnythingUncommittedStopsAFastForwardAndNothingElse) {
  for (const auto relation : {Relation::same, Relation::host_ahead, Relation::guest_ahead, Relation::diverged}) {
    auto dirty = on_main(relation), busy = dirty, blocked = dirty;
    dirty.host_clean = false;
    busy.host_operation = "a rebase";
    blocked.in_the_way = {"x"};
    for (const auto& seen : {dirty, busy, blocked})
      EXPECT_EQ(action(seen), relation == Relation::guest_ahead ? Action::refuse_dirty : action(on_main(relation)));
  }
}

TEST(Plan, ALockOfGitsIsRemovedByTheUserAndOnlyWhereNoGitHoldsIt) {
  auto seen = on_main(Relation::guest_ahead);
  seen.lock = "/p/x y/.git/index.lock";
  seen.host_operation = "a merge";  // what is not done about the lock comes first
  auto decision = decide(seen, "box", std::nullopt, true);
  EXPECT_EQ(decision.action, Action::refuse_dirty);
  EXPECT_THAT(decision.reason, HasSubstr("/p/x y/.git/index.lock is in the way, and no git is at work there"));
  EXPECT_THAT(decision.commands, ElementsAre("rm '/p/x y/.git/index.lock' && agentvm sync box"));
  seen.lock_holder = "git commit (process 7)";
  decision = decide(seen, "box", std::nullopt, true);
  EXPECT_EQ(decision.action, Action::refuse_dirty);
  EXPECT_THAT(decision.reason, HasSubstr("git commit (process 7) is at work"));
  EXPECT_THAT(decision.commands, ElementsAre("agentvm sync box"));
  seen.relation = Relation::host_ahead;
  EXPECT_EQ(action(seen), Action::none) << "nothing would be moved";
}

TEST(Plan, ADetachedHeadAndABranchThatWasAskedForStayWhereTheyAre) {
  auto seen = on_main(Relation::guest_ahead);
  seen.host_branch = "";
  seen.relation.reset();
  seen.other.news = true;
  EXPECT_EQ(action(seen), Action::refs_only);
  EXPECT_EQ(action(seen, false), Action::none);
  seen = on_main(Relation::guest_ahead);
  EXPECT_EQ(decide(seen, "box", "feature", true).action, Action::refs_only);
}

Observation gone_on_to_feature() {
  auto seen = on_main(Relation::same);
  seen.guest_head = "feature";
  seen.other.news = true;
  return seen;
}

TEST(Plan, FollowsTheGuestToAnotherBranchWhereThatHasNews) {
  auto seen = gone_on_to_feature();
  for (const bool changed : {true, false}) EXPECT_EQ(action(seen, changed), Action::follow);  // created
  seen.other.news = false;
  EXPECT_EQ(action(seen), Action::none);
  for (const auto relation : {Relation::same, Relation::host_ahead, Relation::guest_ahead, Relation::diverged}) {
    seen.other.relation = relation;
    const auto wanted = relation == Relation::guest_ahead ? Action::follow
                        : relation == Relation::diverged  ? Action::refuse_diverged
                                                          : Action::none;
    EXPECT_EQ(action(seen), wanted);
  }
  EXPECT_EQ(decide(seen, "box", "main", true).action, Action::none);
}

TEST(Plan, FollowsOverNothingUncommittedAndNotIntoAnotherWorkTree) {
  auto dirty = gone_on_to_feature(), busy = dirty, blocked = dirty, elsewhere = dirty;
  dirty.host_clean = false;
  busy.host_operation = "a rebase";
  blocked.in_the_way = {"x"};
  for (const auto& seen : {dirty, busy, blocked}) EXPECT_EQ(action(seen), Action::refuse_dirty);
  elsewhere.other.relation = Relation::guest_ahead;
  elsewhere.other.checked_out_in = "/else where";
  EXPECT_EQ(action(elsewhere), Action::refs_only);
  EXPECT_THAT(decide(elsewhere, "box", std::nullopt, true).commands,
              ElementsAre("git -C '/else where' merge --ff-only refs/agentvm/box/feature"));
  EXPECT_EQ(action(elsewhere, false), Action::none);
}

TEST(Plan, CommandsNeverForce) {
  auto seen = on_main(Relation::same);
  EXPECT_THAT(decide(seen, "box", "feature", true).commands,
              ElementsAre("git switch feature && git merge --ff-only refs/agentvm/box/feature",
                          "git merge refs/agentvm/box/feature"));
  seen.host_branches = {"main"};
  EXPECT_EQ(decide(seen, "box", "feature", true).commands[0], "git switch -c feature refs/agentvm/box/feature");
  seen = gone_on_to_feature();
  seen.other.relation = Relation::diverged;
  EXPECT_THAT(decide(seen, "box", std::nullopt, true).commands,
              ElementsAre("git switch feature && git merge refs/agentvm/box/feature",
                          "git switch feature && git rebase refs/agentvm/box/feature"));
}

TEST(Plan, ARewrittenBranchIsTakenByResetOnlyWhereNothingOfTheUsersIsLost) {
  auto seen = on_main(Relation::diverged);
  seen.rewritten = true;
  const auto decision = decide(seen, "box", std::nullopt, true);
  EXPECT_EQ(decision.action, Action::refuse_diverged);
  EXPECT_THAT(decision.commands,
              ElementsAre("git reset --keep refs/agentvm/box/main", "git merge refs/agentvm/box/main"));
}

TEST(Plan, SubjectIsTheHostsBranchWhileItHasNews) {
  auto seen = on_main(Relation::guest_ahead);
  seen.guest_head = "feature";
  EXPECT_EQ(subject_branch(seen, std::nullopt), "main");
  seen.relation = Relation::same;
  EXPECT_EQ(subject_branch(seen, std::nullopt), "feature");
  seen.guest_head.clear();
  EXPECT_EQ(subject_branch(seen, std::nullopt), "main");
  seen.guest_branches.clear();
  EXPECT_EQ(subject_branch(seen, std::nullopt), "");
  EXPECT_EQ(action(seen), Action::none);
}

TEST(Plan, UnbornHostBranchTakesEverything) {
  auto seen = on_main(Relation::same);
  seen.host_tip.clear();
  seen.relation.reset();
  EXPECT_EQ(action(seen), Action::fast_forward);
  seen.host_clean = false;
  EXPECT_EQ(action(seen), Action::refuse_dirty);
}

const auto always = [](const std::string&, const std::string&) { return true; };
const auto never = [](const std::string&, const std::string&) { return false; };
using Refs = std::map<std::string, std::string>;

TEST(Landing, NewForwardAndUnchangedBranches) {
  const auto plan = plan_landing("box", Refs{{"refs/agentvm/box/a", "1"}, {"refs/agentvm/box/b", "2"}},
                                 Refs{{"a", "1"}, {"b", "3"}, {"c", "4"}}, {}, "T", always);
  ASSERT_EQ(plan.changes.size(), 2u);
  EXPECT_EQ(plan.changes[0].ref, "refs/agentvm/box/b");
  EXPECT_EQ(plan.changes[0].old_tip, "2");
  EXPECT_EQ(plan.changes[0].kept_as, "");
  EXPECT_EQ(plan.changes[1].old_tip, "");
}

TEST(Landing, RewrittenBranchKeepsItsOldTip) {
  const auto plan = plan_landing("box", Refs{{"refs/agentvm/box/a", "1"}}, Refs{{"a", "2"}}, {}, "T", never);
  EXPECT_EQ(plan.changes.at(0).kept_as, "refs/agentvm/box/old/T/a");
}

TEST(Landing, GoneBranchesStayUnlessTheirNameIsNeeded) {
  const Refs mirrored = {{"refs/agentvm/box/gone", "1"},
                         {"refs/agentvm/box/a", "2"},
                         {"refs/agentvm/box/b/c", "3"},
                         {"refs/agentvm/box/wip/x", "4"},
                         {"refs/agentvm/box/old/T0/a", "5"}};
  const auto plan = plan_landing("box", mirrored, Refs{{"a/x", "6"}, {"b", "7"}}, {}, "T", always);
  EXPECT_THAT(plan.gone, ElementsAre("gone"));
  EXPECT_THAT(plan.displaced, ElementsAre(std::pair<std::string, std::string>("refs/agentvm/box/a", "2"),
                                          std::pair<std::string, std::string>("refs/agentvm/box/b/c", "3")));
}

TEST(Landing, TagsNeverMoveOnAndStayWhenTheyAreGone) {
  const Refs mirrored = {
      {"refs/agentvm/box/tags/v1", "1"}, {"refs/agentvm/box/tags/v2", "2"}, {"refs/agentvm/box/tags/n", "3"}};
  const auto plan = plan_landing("box", mirrored, {}, Refs{{"n/1", "6"}, {"v1", "4"}, {"v3", "5"}}, "T", always);
  ASSERT_EQ(plan.changes.size(), 3u);
  EXPECT_EQ(plan.changes[0].ref, "refs/agentvm/box/tags/n/1");
  EXPECT_EQ(plan.changes[1].kept_as, "refs/agentvm/box/old/T/tags/v1");
  EXPECT_EQ(plan.changes[2].branch, "");
  EXPECT_THAT(plan.gone, IsEmpty());
  EXPECT_THAT(plan.displaced, ElementsAre(std::pair<std::string, std::string>("refs/agentvm/box/tags/n", "3")));
}

}  // namespace
}  // namespace agentvm::sync
