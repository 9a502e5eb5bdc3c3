// What git commands of the user's do to a repository, as the watch sees it.
#include "sync/host_mark.hpp"

#include <gtest/gtest.h>

#include "tests/contract/sync/git_fixture.hpp"

namespace agentvm::sync {
namespace {

using test::Repo;
using test::TempDir;

class HostMarkTest : public testing::Test {
 protected:
  HostMarkTest() { repo.commit("a.txt", "one\n"); }
  std::unique_ptr<HostMark> take(const fs::path& path) {
    return HostMark::take(path, Deadline::after(std::chrono::seconds(20)));
  }
  const TempDir folder;
  const Repo repo = Repo::init(folder / "repo");
};

TEST_F(HostMarkTest, WhatClearsTheWayIsSeen) {
  const auto mark = take(repo.path());
  ASSERT_TRUE(mark);
  EXPECT_FALSE(mark->changed());
  const std::vector<std::vector<std::string>> rows[] = {
      {{"add", "b.txt"}, {"commit", "-qm", "B"}},
      {{"rm", "-q", "--cached", "b.txt"}, {"checkout", "-q", "HEAD", "--", "b.txt"}},
      {{"checkout", "-qb", "other"}},
      {{"reset", "-q", "--soft", "HEAD~"}},
      {{"stash", "push", "-q", "--include-untracked"}},
      {{"checkout", "-q", "--detach"}},
  };
  for (const auto& commands : rows) {
    repo.write("b.txt", "two\n");
    for (const auto& command : commands) repo.git(command);
    EXPECT_TRUE(mark->changed()) << commands.back()[0];
    EXPECT_FALSE(mark->changed()) << "told once: " << commands.back()[0];
  }
}

TEST_F(HostMarkTest, WhatOurOwnQuestionsDoIsNoChange) {
  const auto mark = take(repo.path());
  repo.write("a.txt", "changed\n");
  const HostGit git(repo.path());
  git.output({"status", "--porcelain"}, Deadline::after(std::chrono::seconds(20)));
  EXPECT_FALSE(mark->changed());
}

TEST_F(HostMarkTest, AnotherBranchAndFilesCountOnceNamed) {
  repo.git({"branch", "side"});
  repo.write("way.txt", "mine\n");
  const auto mark = take(repo.path());
  repo.git({"branch", "-f", "side", repo.git({"commit-tree", "-m", "x", "HEAD^{tree}"})});
  EXPECT_FALSE(mark->changed());
  mark->also_branch("side");
  mark->also_files({"way.txt", "absent.txt"});
  EXPECT_FALSE(mark->changed());
  repo.git({"branch", "-f", "side", "HEAD"});
  EXPECT_TRUE(mark->changed());
  fs::remove(repo.path() / "way.txt");
  EXPECT_TRUE(mark->changed());
  EXPECT_FALSE(mark->changed());
  mark->forget();
  EXPECT_TRUE(mark->changed());
}

TEST_F(HostMarkTest, NamesThatLeaveTheWorkTreeAreNotLookedAt) {
  const auto outside = folder / "outside";
  const auto mark = take(repo.path());
  mark->also_files({outside.string(), "../outside", "a/../../outside", "..", "a.txt"});
  EXPECT_FALSE(mark->changed());
  fs::create_directory(outside);
  EXPECT_FALSE(mark->changed());
  repo.write("a.txt", "two\n");
  EXPECT_TRUE(mark->changed()) << "the names after them count";
}

TEST_F(HostMarkTest, AWorktreeOfTheUsersAndWhatIsNone) {
  const TempDir other;
  repo.git({"worktree", "add", "-q", "-b", "wt", (other / "tree").string()});
  const auto mark = take(other / "tree");
  ASSERT_TRUE(mark);
  mark->also_branch("wt");
  repo.commit("c.txt", "three\n");
  EXPECT_FALSE(mark->changed()) << "that was another work tree's branch";
  HostGit(other / "tree").output({"reset", "-q", "--soft", "main"}, Deadline::after(std::chrono::seconds(20)));
  EXPECT_TRUE(mark->changed());
  EXPECT_FALSE(take(other.path()));
  EXPECT_FALSE(take(other / "missing"));
}

}  // namespace
}  // namespace agentvm::sync
