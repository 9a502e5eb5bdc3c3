// Live modes between a real agent (over a socketpair) and a sync that is only counted.
#include "cli/manager/ops/sync_watch.hpp"

#include <atomic>
#include <condition_variable>
#include <fstream>

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "guest/agent/server.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::manager {
namespace {

using std::chrono::seconds;
using sync::SyncMode;

const SandboxName box = SandboxName::parse("box");

class SyncWatchTest : public testing::Test {
 protected:
  SyncWatchTest() {
    fs::create_directories(root / "workspace/.git/refs/heads");
    commit("one");
    auto pair = make_socketpair();
    guest_end = std::move(pair.second);
    guest::agent::ServerOptions options;
    options.stage = guest::agent::Stage::running;
    options.root = root.path();
    server = std::make_unique<guest::agent::Server>(guest_end.get(), std::move(options));
    guest = std::thread([this] { server->run(Deadline::after(milliseconds(60'000))); });
    control = std::make_shared<guest::Control>(std::move(pair.first));
    control->hello(Deadline::after(milliseconds(10'000)));
  }
  ~SyncWatchTest() override {
    watch.stop();
    ::shutdown(guest_end.get(), SHUT_RDWR);
    guest.join();
  }

  void commit(const std::string& id) {
    std::ofstream(root / "workspace/.git/refs/heads/main.lock") << id;
    fs::rename(root / "workspace/.git/refs/heads/main.lock", root / "workspace/.git/refs/heads/main");
  }
  std::string token() { return control->refs("", milliseconds(0), {}, Deadline::after(milliseconds(5'000))).token; }

  bool sync(const std::stop_token& stop) {
    if (busy) return false;
    const auto before = token();
    ++begun;
    const auto patience = Deadline::after(milliseconds(10'000));
    while (slow && !stop.stop_requested() && !patience.expired()) system_clock().sleep(milliseconds(5));
    if (stop.stop_requested()) throw Error(ErrorCode::operation_failed, "interrupted");
    if (broken) throw Error(ErrorCode::operation_failed, "no space left");
    ++landed;
    watch.landed(box, before, {{"result", held ? "dirty" : "gated"}}, held ? mark() : nullptr);
    return true;
  }

  std::shared_ptr<sync::HostMark> mark() {
    return sync::HostMark::take(user.path(), Deadline::after(milliseconds(10'000)));
  }
  void git(std::vector<std::string> args) {
    sync::HostGit(user.path()).output(args, Deadline::after(milliseconds(10'000)));
  }

  template <class Probe>
  static bool eventually(Probe probe) {
    const auto deadline = Deadline::after(milliseconds(10'000));
    while (!probe() && !deadline.expired()) system_clock().sleep(milliseconds(5));
    return probe();
  }
  std::string state() { return require<std::string>(watch.status(box), "state"); }
  void begin(SyncMode mode, milliseconds idle = seconds(60), const std::string& settled = "") {
    watch.watch(box, {mode, idle, settled, nullptr}, control);
  }

  const test::TemporaryFolder root, user;
  UniqueFd guest_end;
  std::unique_ptr<guest::agent::Server> server;
  std::thread guest;
  std::shared_ptr<guest::Control> control;
  std::atomic<bool> busy = false, slow = false, broken = false, held = false;
  std::atomic<int> begun = 0, landed = 0;
  std::atomic<std::uint64_t> commits = 3;
  std::atomic<bool> tell_fails = false;
  std::mutex numbers_mutex;  // guards `numbers`
  std::vector<std::uint64_t> numbers;
  SyncWatch watch{{[this](const SandboxName&, const std::stop_token& stop) { return sync(stop); },
                   [this](const SandboxName&, guest::Control&) { return std::optional(commits.load()); },
                   [this](const SandboxName&, guest::Control&, std::uint64_t number) {
                     const std::lock_guard lock(numbers_mutex);
                     numbers.push_back(number);
                     if (tell_fails) throw Error(ErrorCode::operation_failed, "no room in the guest");
                   }}};
  std::vector<std::uint64_t> inside() {
    const std::lock_guard lock(numbers_mutex);
    return numbers;
  }
};

TEST_F(SyncWatchTest, ACommitIsSyncedOnce) {
  begin(SyncMode::auto_commit, seconds(60), token());
  system_clock().sleep(milliseconds(300));
  EXPECT_EQ(landed, 0) << "the host has what is there";
  commit("two");
  EXPECT_TRUE(eventually([&] { return landed == 1 && state() == "watching"; }));
  EXPECT_EQ(watch.status(box)["pending_commits"], 0);
  system_clock().sleep(milliseconds(1'500));
  EXPECT_EQ(landed, 1) << "gated: not repeated until something changes";
  commit("three");
  EXPECT_TRUE(eventually([&] { return landed == 2; }));
}

TEST_F(SyncWatchTest, WhatTheLastManagerDidNotSeeIsFetched) {
  begin(SyncMode::auto_commit, seconds(60), "0123");
  EXPECT_TRUE(eventually([&] { return landed == 1; }));
}

TEST_F(SyncWatchTest, ManualCountsAndLeavesItAtThat) {
  begin(SyncMode::manual, seconds(60), token());
  commit("two");
  EXPECT_TRUE(eventually([&] { return watch.status(box)["pending_commits"] == 3; }));
  EXPECT_EQ(state(), "pending");
  EXPECT_EQ(begun, 0);
  watch.landed(box, token(), {{"result", "updated"}});
  EXPECT_EQ(watch.status(box)["pending_commits"], 0);
}

TEST_F(SyncWatchTest, TheGuestIsToldTheNumberWhenItIsAnotherOne) {
  begin(SyncMode::manual, seconds(60), token());
  ASSERT_TRUE(eventually([&] { return inside() == std::vector<std::uint64_t>{0}; }));
  tell_fails = true;
  commit("two");
  ASSERT_TRUE(eventually([&] { return inside() == std::vector<std::uint64_t>{0, 3}; }));
  commit("three");  // counted as 3 again
  system_clock().sleep(milliseconds(2'500));
  EXPECT_EQ(inside().size(), 2u) << "what failed is not repeated, and what is known is not told";
  watch.landed(box, token(), {{"result", "updated"}});
  EXPECT_TRUE(eventually([&] { return inside().size() == 3; })) << "the watch goes on";
  EXPECT_EQ(inside().back(), 0u);
}

TEST_F(SyncWatchTest, WhatTheUsersWorkHeldGoesOnOnceThatChanged) {
  git({"init", "-q"});
  held = true;
  begin(SyncMode::auto_commit, seconds(60), token());
  std::atomic<int> told = 0;
  const auto handle = watch.follow(box, watch.sequence(box), [&](const Json&) { ++told; });
  commit("two");
  ASSERT_TRUE(eventually([&] { return landed == 1 && told == 1; }));  // else the next one hears of this, too
  const auto again = watch.follow(box, watch.sequence(box), [&](const Json&) { ++told; });
  system_clock().sleep(milliseconds(2'500));
  EXPECT_EQ(landed, 1) << "nothing changed";
  git({"symbolic-ref", "HEAD", "refs/heads/other"});
  ASSERT_TRUE(eventually([&] { return landed == 2 && state() == "watching"; }));
  EXPECT_EQ(told, 1) << "it is held as before: nobody needs to hear that again";
  held = false;
  git({"symbolic-ref", "HEAD", "refs/heads/third"});
  ASSERT_TRUE(eventually([&] { return landed == 3; }));
  EXPECT_TRUE(eventually([&] { return told == 2; }));
  git({"symbolic-ref", "HEAD", "refs/heads/other"});
  system_clock().sleep(milliseconds(3'500));
  EXPECT_EQ(landed, 3) << "nothing is held any more";
}

TEST_F(SyncWatchTest, WhatWasHeldBeforeIsLookedAtOnceByTheNextManager) {
  git({"init", "-q"});
  SyncWatch::Settings settings{SyncMode::auto_commit, seconds(60), token(), mark()};
  settings.held->forget();
  watch.watch(box, std::move(settings), control);
  EXPECT_TRUE(eventually([&] { return landed == 1; }));
}

TEST_F(SyncWatchTest, AManualSandboxLeavesTheUsersSideToTheUser) {
  git({"init", "-q"});
  begin(SyncMode::manual, seconds(60), token());
  watch.landed(box, token(), {{"result", "dirty"}}, mark());
  git({"symbolic-ref", "HEAD", "refs/heads/other"});
  system_clock().sleep(milliseconds(3'500));
  EXPECT_EQ(begun, 0);
}

TEST_F(SyncWatchTest, IdleWaitsForQuiet) {
  begin(SyncMode::auto_idle, milliseconds(600), token());
  for (int i = 0; i < 4; ++i) {
    commit("busy" + std::to_string(i));
    system_clock().sleep(milliseconds(250));
    EXPECT_EQ(landed, 0);
  }
  EXPECT_TRUE(eventually([&] { return landed == 1; }));
}

TEST_F(SyncWatchTest, WhoFollowsMissesNothingAndMakesAManualSandboxSync) {
  begin(SyncMode::manual, seconds(60), token());
  std::mutex mutex;
  std::vector<Json> news;
  const auto take = [&](const Json& item) {
    const std::lock_guard lock(mutex);
    news.push_back(item);
  };
  const auto count = [&] {
    const std::lock_guard lock(mutex);
    return news.size();
  };
  auto handle = watch.follow(box, watch.sequence(box), take);
  commit("two");
  ASSERT_TRUE(eventually([&] { return count() == 1; }));
  EXPECT_EQ(news[0]["sequence"], 1);
  EXPECT_EQ(news[0]["outcome"]["result"], "gated");
  commit("three");  // nobody follows now
  system_clock().sleep(milliseconds(1'200));
  EXPECT_EQ(landed, 1);
  watch.landed(box, "", {{"result", "updated"}});  // by hand
  handle = watch.follow(box, 1, take);
  ASSERT_EQ(count(), 2u) << "it landed before: told at once";
  EXPECT_EQ(news[1]["sequence"], 2);
  handle = watch.follow(box, 99, take);  // counted by a manager before this one
  EXPECT_EQ(count(), 2u);
  watch.unwatch(box);
  ASSERT_EQ(count(), 3u);
  EXPECT_EQ(news[2]["ended"], true);
  EXPECT_EQ(test::error_of([&] { watch.follow(box, 0, take); })->code(), ErrorCode::wrong_state);
}

TEST_F(SyncWatchTest, AFollowerThatLeavesIsNotCalled) {
  begin(SyncMode::manual, seconds(60), token());
  watch.follow(box, 0, [](const Json&) { FAIL(); }).reset();
  commit("two");
  system_clock().sleep(milliseconds(300));
  EXPECT_EQ(begun, 0);
}

TEST_F(SyncWatchTest, FailuresAreToldAndBackOff) {
  broken = true;
  begin(SyncMode::auto_commit);
  EXPECT_TRUE(eventually([&] { return state() == "backing-off"; }));
  const auto status = watch.status(box);
  EXPECT_EQ(status["last_error"], "no space left");
  EXPECT_TRUE(status["next_time"].is_string());
  commit("two");
  system_clock().sleep(milliseconds(500));
  EXPECT_EQ(begun, 1);
  broken = false;
  watch.landed(box, token(), {{"result", "updated"}});
  EXPECT_EQ(state(), "watching");
  EXPECT_TRUE(watch.status(box)["last_error"].is_null());
}

TEST_F(SyncWatchTest, ABusySandboxIsTriedAgain) {
  busy = true;
  begin(SyncMode::auto_commit);
  system_clock().sleep(milliseconds(700));
  EXPECT_EQ(begun, 0);
  busy = false;
  EXPECT_TRUE(eventually([&] { return landed == 1; }));
}

TEST_F(SyncWatchTest, AStopEndsTheSyncThatRunsAndNoneFollows) {
  slow = true;
  begin(SyncMode::auto_commit);
  ASSERT_TRUE(eventually([&] { return state() == "syncing"; }));
  {
    const SyncWatch::Quiet quiet(watch, box);
    EXPECT_TRUE(eventually([&] { return state() == "pending"; }));
    slow = false;
    commit("two");
    system_clock().sleep(milliseconds(800));
    EXPECT_EQ(landed, 0);
    EXPECT_TRUE(watch.status(box)["last_error"].is_null()) << "we ended it ourselves";
  }
  EXPECT_TRUE(eventually([&] { return landed == 1; })) << "the stop failed: on as before";
  slow = true;
  commit("three");
  ASSERT_TRUE(eventually([&] { return state() == "syncing"; }));
  const auto begin_of_end = std::chrono::steady_clock::now();
  watch.unwatch(box);
  EXPECT_LT(std::chrono::steady_clock::now() - begin_of_end, seconds(5));
  EXPECT_EQ(state(), "off");
}

TEST_F(SyncWatchTest, AGuestThatIsGoneIsSaid) {
  begin(SyncMode::auto_commit, seconds(60), token());
  ASSERT_TRUE(eventually([&] { return watch.status(box)["pending_commits"] == 0; }));
  ::shutdown(guest_end.get(), SHUT_RDWR);
  EXPECT_TRUE(eventually([&] { return state() == "off"; }));
  EXPECT_TRUE(watch.status(box)["last_error"].is_string());
}

}  // namespace
}  // namespace agentvm::manager
