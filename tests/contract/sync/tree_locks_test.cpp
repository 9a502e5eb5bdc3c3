// Lock files in the user's repository, left by a git that was killed or held by one that is at work.
#include "sync/tree_locks.hpp"

#include <csignal>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/contract/sync/sync_fixture.hpp"
#include "tests/support/fake_streams.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using test::Repo;
using testing::ElementsAre;
using testing::HasSubstr;

class TreeLocks : public test::HostAndGuest {
 protected:
  SyncOutcome sync() { return sync_now(request(), streams, no_progress(), Deadline::after(std::chrono::seconds(60))); }
  /// `git commit --all` keeps the lock while its editor is open, and no descriptor of it.
  Process commit_in_the_editor() {
    host.write("mine.txt", "mine\n");
    host.git({"add", "mine.txt"});
    ProcessSpec spec;
    spec.argv = {"git", "commit", "--all"};
    spec.cwd = host.path().string();
    spec.env = std::map<std::string, std::string>{
        {"PATH", std::getenv("PATH")}, {"HOME", "/nonexistent"},    {"EMAIL", "a@b"},
        {"GIT_AUTHOR_NAME", "A"},      {"GIT_COMMITTER_NAME", "A"}, {"GIT_EDITOR", "sleep 60 #"}};
    spec.in_child = [] { return ::setpgid(0, 0); };
    auto process = Process::spawn(spec);
    const auto patience = Deadline::after(std::chrono::seconds(20));
    while (!fs::exists(lock) && !patience.expired()) system_clock().sleep(milliseconds(5));
    return process;
  }

  test::FakeStreams streams;
  const fs::path lock = host.path() / ".git/index.lock";
};

TEST_F(TreeLocks, WhatAKilledGitLeftIsNamedWithItsRemedy) {
  const auto tip = guest.commit("b.txt", "two\n");
  for (const char* name : {"index.lock", "HEAD.lock", "ORIG_HEAD.lock", "refs/heads/main.lock"}) {
    const auto path = host.path() / ".git" / name;
    const auto before = host.tip();
    write_file_atomic(path, "");
    const auto outcome = sync();
    EXPECT_EQ(outcome.result, Result::dirty);
    EXPECT_EQ(outcome.exit_code(), 6);
    EXPECT_THAT(outcome.reason, HasSubstr(path.string() + " is in the way, and no git is at work there"));
    EXPECT_THAT(outcome.commands, ElementsAre("rm " + path.string() + " && agentvm sync box"));
    EXPECT_TRUE(fs::exists(path)) << "it is the user's to say";
    EXPECT_EQ(host.tip(), before);
    EXPECT_EQ(host.tip("refs/agentvm/box/main"), tip) << "the commits are here all the same";
    fs::remove(path);
  }
  EXPECT_TRUE(sync().moved);
  write_file_atomic(lock, "");
  EXPECT_EQ(sync().result, Result::up_to_date) << "nothing moves, so nothing is in the way";
}

TEST_F(TreeLocks, WhereTheBranchIsAnotherOneItsOwnLockCounts) {
  guest.git({"switch", "--quiet", "-c", "feature"});
  guest.commit("b.txt", "two\n");
  write_file_atomic(host.path() / ".git/refs/heads/feature.lock", "");
  EXPECT_THAT(sync().reason, HasSubstr("refs/heads/feature.lock is in the way"));
  fs::remove(host.path() / ".git/refs/heads/feature.lock");
  EXPECT_EQ(sync().switched_from, "main");
}

TEST_F(TreeLocks, AGitThatIsAtWorkIsNamedAndNotBlamed) {
  guest.commit("b.txt", "two\n");
  auto process = commit_in_the_editor();
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::dirty);
  EXPECT_THAT(outcome.reason, HasSubstr("git commit (process " + std::to_string(process.pid()) + ") is at work"));
  EXPECT_THAT(outcome.commands, ElementsAre("agentvm sync box"));
  ::kill(-process.pid(), SIGKILL);
  process.wait(Deadline::after(std::chrono::seconds(10)));
  EXPECT_THAT(sync().reason, HasSubstr("no git is at work there"));
}

/// Any program that keeps the file open: editors bring a git of their own.
TEST_F(TreeLocks, AProgramThatHasTheLockOpenHoldsIt) {
  const auto host_repository = open_host_repository(host.path(), Deadline::after(std::chrono::seconds(10)));
  auto open = open_file(lock, O_WRONLY | O_CREAT | O_EXCL);
  auto found = lock_in_the_way(host_repository, "main", Deadline::after(std::chrono::seconds(10)));
  ASSERT_TRUE(found);
  EXPECT_THAT(found->holder, HasSubstr("(process " + std::to_string(::getpid()) + ")"));
  open.reset();
  found = lock_in_the_way(host_repository, "main", Deadline::after(std::chrono::seconds(10)));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->holder, "");
}

TEST_F(TreeLocks, OneThatGoesAwayIsWaitedFor) {
  guest.commit("b.txt", "two\n");
  write_file_atomic(lock, "");
  const auto in = open_file(lock, O_RDONLY);
  const std::jthread git([this] {
    system_clock().sleep(milliseconds(300));
    fs::remove(lock);
  });
  const auto host_repository = open_host_repository(host.path(), Deadline::after(std::chrono::seconds(10)));
  EXPECT_FALSE(lock_in_the_way(host_repository, "main", Deadline::after(std::chrono::seconds(10))));
  EXPECT_TRUE(sync().moved);
}

}  // namespace
}  // namespace agentvm::sync
