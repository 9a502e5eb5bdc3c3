// When a sandbox syncs by itself: time and tokens in, a point in time out.
#include "sync/auto_sync.hpp"

#include <gtest/gtest.h>

#include "sync/pending.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::sync {
namespace {

using std::chrono::seconds;

class AutoSyncTest : public testing::Test {
 protected:
  /// Syncs at `now`, taking `took`, and lands.
  void sync(AutoSync& policy, seconds took = seconds(0)) {
    policy.started(now);
    now += took;
    policy.landed(policy.token(), now);
  }
  SteadyTime now = std::chrono::steady_clock::now();
  const SteadyTime begin = now;
};

TEST_F(AutoSyncTest, AModeIsItsText) {
  for (const char* text : {"manual", "auto-commit", "auto-idle"}) EXPECT_EQ(to_string(sync_mode_from(text)), text);
  EXPECT_EQ(test::error_of([] { sync_mode_from("auto"); })->code(), ErrorCode::usage);
}

TEST_F(AutoSyncTest, ACommitIsDueAtOnceAndNotAgain) {
  AutoSync policy(SyncMode::auto_commit, seconds(60), "a");
  EXPECT_FALSE(policy.due());
  policy.seen("a", now);
  EXPECT_FALSE(policy.pending());
  EXPECT_FALSE(policy.due());
  policy.seen("b", now);
  EXPECT_TRUE(policy.pending());
  EXPECT_EQ(policy.due(), now);
  sync(policy);
  policy.seen("b", now);
  EXPECT_FALSE(policy.due()) << "whatever the gate or the branch rule said of it";
  policy.seen("c", now);
  EXPECT_EQ(policy.due(), now + AutoSync::least_pause);
}

TEST_F(AutoSyncTest, WhatChangesDuringASyncIsSyncedAfterIt) {
  AutoSync policy(SyncMode::auto_commit, seconds(60), "");
  policy.seen("a", now);
  policy.started(now);
  policy.seen("b", now);
  policy.landed("a", now + seconds(3));
  EXPECT_TRUE(policy.pending());
  EXPECT_EQ(policy.due(), now + seconds(6)) << "it works at most half of the time";
}

TEST_F(AutoSyncTest, IdleWaitsForQuiet) {
  AutoSync policy(SyncMode::auto_idle, seconds(60), "a");
  policy.seen("b", now);
  EXPECT_EQ(policy.due(), begin + seconds(60));
  now += seconds(59);
  policy.seen("b", now);
  EXPECT_EQ(policy.due(), begin + seconds(60)) << "the same token is no change";
  policy.seen("c", now);
  EXPECT_EQ(policy.due(), begin + seconds(119));
  policy.seen("a", now);
  EXPECT_FALSE(policy.due()) << "it is what the host has";
}

TEST_F(AutoSyncTest, WhatTheUsersOwnWorkHeldIsDueOnceThatChanged) {
  AutoSync policy(SyncMode::auto_commit, seconds(60), "a");
  policy.seen("a", now);
  policy.host_changed(now);
  EXPECT_FALSE(policy.held() || policy.due()) << "nothing was held";
  policy.seen("b", now);
  policy.started(now);
  policy.landed("b", now, true);
  EXPECT_TRUE(policy.held());
  EXPECT_FALSE(policy.due());
  now += seconds(100);
  policy.host_changed(now);
  EXPECT_TRUE(policy.again());
  EXPECT_FALSE(policy.pending()) << "the guest has nothing new";
  EXPECT_EQ(policy.due(), now + AutoSync::host_quiet);
  now += milliseconds(900);
  policy.host_changed(now);
  EXPECT_EQ(policy.due(), now + AutoSync::host_quiet) << "git commands come in rows";
  sync(policy);
  EXPECT_FALSE(policy.held() || policy.again() || policy.due()) << "it moved";
}

TEST_F(AutoSyncTest, AHostThatNeverRestsIsSyncedWithNoMoreThanAGuestIs) {
  AutoSync policy(SyncMode::auto_idle, seconds(60), "a", true);
  policy.seen("a", now);
  for (std::size_t i = 0; i < AutoSync::burst; ++i) {
    policy.host_changed(now);
    ASSERT_LE(*policy.due(), now + seconds(2)) << "it is not the guest that is to be quiet";
    now = *policy.due();
    policy.started(now);
    policy.landed("a", now, true);
  }
  policy.host_changed(now);
  EXPECT_GT(*policy.due(), now + seconds(10));
}

TEST_F(AutoSyncTest, ManualIsLeftToTheUserUnlessSomebodyFollows) {
  AutoSync policy(SyncMode::manual, seconds(60), "a");
  policy.seen("b", now);
  EXPECT_TRUE(policy.pending());
  EXPECT_FALSE(policy.due());
  policy.followed(true);
  EXPECT_EQ(policy.due(), now);
  policy.followed(false);
  EXPECT_FALSE(policy.due());
  policy.landed("b", now);
  EXPECT_FALSE(policy.pending()) << "a sync by hand counts";
}

TEST_F(AutoSyncTest, TheUsersOwnSyncIsNoWorkOfOurs) {
  AutoSync policy(SyncMode::auto_commit, seconds(60), "");
  policy.seen("a", now);
  sync(policy);
  now += seconds(1000);
  policy.landed("a", now);
  policy.seen("b", now);
  EXPECT_EQ(policy.due(), now + AutoSync::least_pause);
}

TEST_F(AutoSyncTest, FailuresWaitLongerEachTimeUpToACap) {
  AutoSync policy(SyncMode::auto_commit, seconds(60), "");
  policy.seen("a", now);
  milliseconds wait = AutoSync::first_backoff;
  for (int i = 0; i < 10; ++i) {
    policy.started(now);
    policy.failed(now);
    policy.seen("more" + std::to_string(i), now);  // news do not make it hurry
    EXPECT_EQ(policy.due(), now + std::min(wait, AutoSync::longest_backoff));
    wait *= 2;
    now = *policy.due();
  }
  EXPECT_EQ(policy.failures(), 10u);
  sync(policy);
  policy.seen("z", now);
  EXPECT_EQ(policy.due(), now + AutoSync::least_pause);
}

TEST_F(AutoSyncTest, AFloodOfChangesIsAnsweredSoOftenAMinuteAndNotMore) {
  AutoSync policy(SyncMode::auto_commit, seconds(60), "");
  int count = 0;
  for (; now < begin + seconds(600); now += milliseconds(100)) {
    policy.seen(std::to_string(now.time_since_epoch().count()), now);
    if (policy.due() > now) continue;
    sync(policy);
    ++count;
  }
  EXPECT_GE(count, 10 * static_cast<int>(AutoSync::burst) - 1);
  EXPECT_LE(count, 10 * static_cast<int>(AutoSync::burst) + 1);
}

TEST_F(AutoSyncTest, OneThatDidNotComeToItCountsForNothing) {
  AutoSync policy(SyncMode::auto_commit, seconds(60), "");
  policy.seen("a", now);
  for (std::size_t i = 0; i < 2 * AutoSync::burst; ++i) {
    policy.started(now);
    policy.withdrawn();
  }
  EXPECT_EQ(policy.due(), now);
}

TEST(Pending, TheGuestsNumberIsTakenWhenItIsOne) {
  EXPECT_EQ(pending_answer("0\n"), 0u);
  EXPECT_EQ(pending_answer("17\n"), 17u);
  for (const char* bad : {"", "\n", "-1\n", "1 2\n", "17\n\n", "\x1b[31m1\n", "100001\n", "99999999999999999999999\n"})
    EXPECT_FALSE(pending_answer(bad)) << bad;
}

}  // namespace
}  // namespace agentvm::sync
