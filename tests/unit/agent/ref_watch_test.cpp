// What a guest tells of its references: seen by the agent, told to the host, checked there.
#include "guest/agent/ref_watch.hpp"

#include <csignal>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "guest/control/control.hpp"
#include "guest/control/refs.hpp"
#include "tests/support/served_folder.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::guest {
namespace {

using agent::RefWatch;
using test::error_of;

class RefWatchTest : public testing::Test {
 protected:
  RefWatchTest() { git("init -q"); }

  void git(const std::string& words) {
    ProcessSpec spec;
    spec.argv = {"sh", "-c",
                 "cd \"$0\" && HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 git -c init.defaultBranch=main -c user.name=A "
                 "-c user.email=a@b.invalid " +
                     words,
                 work.string()};
    run_checked(spec, Deadline::after(milliseconds(20'000)));
  }
  /// Waits as the server does; false when nothing came in time.
  static bool told(RefWatch& watch, milliseconds patience = milliseconds(5'000)) {
    const auto before = watch.token();
    const auto deadline = Deadline::after(patience);
    while (!deadline.expired()) {
      auto until = deadline;
      if (const auto next = watch.next_look()) until = until.sooner(Deadline(*next));
      wait_for(watch.fd(), POLLIN, until);
      const auto now = std::chrono::steady_clock::now();
      watch.take_events(now);
      if (const auto next = watch.next_look(); next && now >= *next) watch.look(now);
      if (watch.token() != before) return true;
    }
    return false;
  }

  const test::TemporaryFolder root;
  const fs::path work = [this] {
    fs::create_directories(root / "workspace");
    return root / "workspace";
  }();
};

TEST_F(RefWatchTest, EveryKindOfChangeIsSeen) {
  RefWatch watch(work);
  watch.look(std::chrono::steady_clock::now());
  EXPECT_EQ(watch.token().size(), 16u);
  for (const char* words :
       {"commit -q --allow-empty -m one", "commit -q --allow-empty -m two", "branch side/deep/er",
        "checkout -q -b other", "worktree add -q ../tree side/deep/er", "-C ../tree commit -q --allow-empty -m three",
        "-C ../tree checkout -q --detach", "pack-refs --all", "branch -D other2 || git branch third",
        "symbolic-ref HEAD refs/heads/third", "update-ref -d refs/heads/other"}) {
    git(words);
    EXPECT_TRUE(told(watch)) << words;
  }
}

TEST_F(RefWatchTest, WorkInTheTreeIsNoNews) {
  git("commit -q --allow-empty -m one");
  RefWatch watch(work);
  watch.look(std::chrono::steady_clock::now());
  const auto token = watch.token();
  std::ofstream(work / "file") << "text\n";
  git("add -A");
  git("status");
  git("stash list");
  EXPECT_FALSE(told(watch, milliseconds(500)));
  watch.look(std::chrono::steady_clock::now());
  EXPECT_EQ(watch.token(), token);
}

TEST_F(RefWatchTest, ABurstIsOneLook) {
  git("commit -q --allow-empty -m one");
  RefWatch watch(work);
  watch.look(std::chrono::steady_clock::now());
  const auto begun = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) std::ofstream(work / ".git/refs/heads" / std::to_string(i)) << i;
  watch.take_events(begun);
  ASSERT_TRUE(watch.next_look());
  const auto first = *watch.next_look();
  EXPECT_GT(first, begun);
  for (int i = 0; i < 100; ++i) {
    std::ofstream(work / ".git/refs/heads/more") << i;
    watch.take_events(begun + milliseconds(10 * i));
    EXPECT_LE(*watch.next_look(), begun + milliseconds(300)) << "a burst without an end is looked at all the same";
  }
}

TEST_F(RefWatchTest, ARepositoryMayComeGoAndBeNone) {
  fs::remove_all(work);
  RefWatch watch(work);
  watch.look(std::chrono::steady_clock::now());
  ASSERT_TRUE(watch.next_look()) << "nothing tells when it comes: looked at from time to time";
  const auto none = watch.token();
  fs::create_directories(work);
  git("init -q");
  watch.look(std::chrono::steady_clock::now());
  EXPECT_NE(watch.token(), none);
  EXPECT_FALSE(watch.next_look());
  // Another repository in its place.
  fs::rename(work / ".git", work / "old");
  EXPECT_TRUE(told(watch));
  git("init -q");
  EXPECT_TRUE(told(watch));
  git("commit -q --allow-empty -m one");
  EXPECT_TRUE(told(watch));
}

TEST_F(RefWatchTest, NothingIsFollowedOrReadAndNothingHangs) {
  git("commit -q --allow-empty -m one");
  fs::create_directory(root / "elsewhere");
  fs::remove_all(work / ".git/refs/tags");
  fs::create_directory_symlink(root / "elsewhere", work / ".git/refs/tags");
  ASSERT_EQ(::mkfifo((work / ".git/refs/heads/pipe").c_str(), 0600), 0);
  fs::remove(work / ".git/HEAD");
  ASSERT_EQ(::mkfifo((work / ".git/HEAD").c_str(), 0600), 0);
  auto deep = work / ".git/refs/heads";
  for (int i = 0; i < 40; ++i) deep /= "d";
  fs::create_directories(deep);
  RefWatch watch(work);
  watch.look(std::chrono::steady_clock::now());
  const auto token = watch.token();
  EXPECT_TRUE(watch.next_look()) << "too deep to be watched as a whole";
  std::ofstream(root / "elsewhere/outside") << "x";
  watch.look(std::chrono::steady_clock::now());
  EXPECT_EQ(watch.token(), token);
}

TEST_F(RefWatchTest, TheHostHearsOfACommit) {
  git("commit -q --allow-empty -m one");
  test::ServedFolder served(root.path());
  auto& control = *served.control;
  const auto deadline = Deadline::after(milliseconds(30'000));
  const auto first = control.refs("", milliseconds(0), {}, deadline).token;
  EXPECT_EQ(control.refs(first, milliseconds(100), {}, deadline).token, first);
  std::thread committer([&] { git("commit -q --allow-empty -m two"); });
  const auto second = control.refs(first, milliseconds(20'000), {}, deadline).token;
  committer.join();
  EXPECT_NE(second, first);
  // Somebody who asks now is told of what was done before they asked, debounced or not.
  const auto settled = control.refs("", milliseconds(0), {}, deadline).token;
  git("commit -q --allow-empty -m three");
  EXPECT_NE(control.refs("", milliseconds(0), {}, deadline).token, settled);
  std::stop_source stop;
  std::thread stopper([&] { stop.request_stop(); });
  const auto error = error_of([&] {
    for (auto token = settled;;) token = control.refs(token, milliseconds(20'000), stop.get_token(), deadline).token;
  });
  stopper.join();
  EXPECT_EQ(error->code(), ErrorCode::cancelled);
}

TEST(RefWatch, SaysWhetherItSawEverything) {
  const test::TemporaryFolder root;
  const auto work = root / "work", git = work / ".git";
  RefWatch watch(work);
  const auto whole = [&] {
    watch.look(std::chrono::steady_clock::now());
    return watch.whole();
  };
  EXPECT_FALSE(whole()) << "nothing is there";
  fs::create_directories(git / "refs/heads");
  EXPECT_TRUE(whole());
  fs::create_directory(git / "reftable");
  EXPECT_FALSE(whole());
  fs::remove(git / "reftable");
  EXPECT_TRUE(whole());
  auto deep = git / "refs/heads";
  for (int i = 0; i < 20; ++i) fs::create_directory(deep /= "d");
  EXPECT_FALSE(whole());
  fs::remove_all(git / "refs/heads/d");
  fs::remove_all(git / "refs");
  fs::create_directory_symlink(root.path(), git / "refs");
  EXPECT_FALSE(whole()) << "a link is not followed";
  fs::remove_all(git);
  std::ofstream(git) << "gitdir: /elsewhere\n";
  EXPECT_FALSE(whole());
}

TEST(GuestRefs, AreCheckedByteForByte) {
  EXPECT_EQ(parse_guest_refs({{"token", "0f"}, {"more", 1}}).token, "0f");
  EXPECT_FALSE(parse_guest_refs({{"token", "0f"}}).whole) << "an older guest";
  EXPECT_TRUE(parse_guest_refs({{"token", "0f"}, {"whole", true}}).whole);
  for (const char* bad : {R"({})", R"({"token": ""})", R"({"token": "G"})", R"({"token": "0F"})",
                          R"({"token": "0\u001b"})", R"({"token": 7})", R"({"token": null})", R"([])", "7"})
    EXPECT_TRUE(error_of([&] { parse_guest_refs(Json::parse(bad)); })) << bad;
  EXPECT_TRUE(error_of([] { parse_guest_refs({{"token", std::string(65, 'a')}}); }));
}

}  // namespace
}  // namespace agentvm::guest
