// What git-remote-agentvm asks for: a listing that fetches nothing, and checked objects in any repository of the host.
#include "sync/remote.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/contract/sync/git_fixture.hpp"
#include "tests/contract/sync/hostile_server.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using namespace test;
using testing::HasSubstr;

class RemoteTest : public testing::Test {
 protected:
  RemoteTest() : guest(Repo::init(dir / "guest")) {
    first = guest.commit("a.txt", "one\n", "first");
    guest.git({"branch", "side"});
    tip = guest.commit("b.txt", "two\n", "second");
    request = {.guest_path = guest.path().string(), .libexec = AGENTVM_TEST_LIBEXEC, .scratch = dir / "scratch"};
  }
  ~RemoteTest() override {
    if (!fs::exists(dir / "scratch")) return;
    for (const auto& entry : fs::directory_iterator(dir / "scratch")) EXPECT_EQ(entry.path().filename(), "sync.lock");
  }
  Delivery deliver(const fs::path& git_dir) {
    return deliver_remote(request, git_dir, streams, no_progress(), Deadline::after(std::chrono::seconds(60)));
  }
  std::string refusal(const fs::path& git_dir) {
    try {
      deliver(git_dir);
    } catch (const Error& error) {
      return std::string(error.what()) + " | " + error.hint();
    }
    return "delivered";
  }

  TempDir dir;
  Repo guest;
  std::string first, tip;
  RemoteRequest request;
  FakeStreams streams;
};

TEST_F(RemoteTest, ListingNamesBranchesAndFetchesNothing) {
  const auto verdict = list_remote(request, streams, no_progress(), Deadline::after(std::chrono::seconds(30)));
  EXPECT_EQ(verdict.branches, (std::map<std::string, std::string>{{"main", tip}, {"side", first}}));
  EXPECT_EQ(verdict.head_branch, "main");
  EXPECT_EQ(verdict.objects, 0u);
}

TEST_F(RemoteTest, ADetachedHeadComesAsABranchWould) {
  const auto list = [&] {
    return list_remote(request, streams, no_progress(), Deadline::after(std::chrono::seconds(30)));
  };
  EXPECT_EQ(list().detached_head, "");
  guest.git({"checkout", "--quiet", "--detach"});
  const auto alone = guest.commit(".envrc", "evil\n");
  EXPECT_EQ(list().detached_head, alone);
  EXPECT_EQ(list().head_branch, "");
  const auto clone = Repo::init(dir / "clone");
  const auto delivery = deliver(clone.path() / ".git");
  EXPECT_EQ(delivery.verdict.detached_head, alone);
  EXPECT_EQ(delivery.verdict.branches.size(), 2u);
  ASSERT_EQ(delivery.gated.size(), 1u);
  clone.git({"branch", "got", alone});
  clone.fsck();
  fs::remove(delivery.keep);
  // A branch that is left out for its name is no reason to leave out where the guest stands.
  guest.git({"checkout", "--quiet", "-b", "wip/mine"});
  EXPECT_EQ(list().detached_head, alone);
  EXPECT_EQ(list().branches.size(), 2u);
}

// HEAD is the only way to this commit, and the guest does not have all that it leads to.
TEST_F(RemoteTest, ADetachedHeadIsProvenLikeABranch) {
  guest.git({"checkout", "--quiet", "--detach"});
  const auto alone = guest.commit("c.txt", "three\n");
  const auto clone = Repo::init(dir / "clone");
  // The host has the commit without its files, and the lying guest says there is no more.
  clone.git({"hash-object", "-w", "-t", "commit", "--stdin"}, guest.git({"cat-file", "commit", alone}) + "\n");
  ASSERT_TRUE(clone.git_ok({"cat-file", "-e", alone}));
  FakeStreams lying([&](const guest::ExecSpec&) {
    return serve(advertisement({{alone, "HEAD"}}),
                 band(1, make_pack({pack_entry(PackType::blob, "unrelated\n")})) + "0000");
  });
  const auto delivery =
      deliver_remote(request, clone.path() / ".git", lying, no_progress(), Deadline::after(std::chrono::seconds(30)));
  EXPECT_EQ(delivery.verdict.detached_head, "");
  EXPECT_EQ(delivery.keep, "");
  ASSERT_EQ(delivery.verdict.rejected.size(), 1u);
  EXPECT_THAT(delivery.verdict.rejected[0].reason, HasSubstr("is not complete"));
}

// Git prunes what nothing refers to file by file: a commit may stay without what it leads to.
TEST_F(RemoteTest, ACommitThatOutlivedItsFilesComesWhole) {
  const auto clone = Repo::init(dir / "clone");
  clone.git({"hash-object", "-w", "-t", "commit", "--stdin"}, guest.git({"cat-file", "commit", tip}) + "\n");
  ASSERT_TRUE(clone.git_ok({"cat-file", "-e", tip}));
  const auto delivery = deliver(clone.path() / ".git");
  EXPECT_EQ(delivery.verdict.rejected.size(), 0u);
  ASSERT_EQ(delivery.verdict.branches.count("main"), 1u);
  clone.git({"branch", "got", tip});
  clone.fsck();
  fs::remove(delivery.keep);
}

TEST_F(RemoteTest, ObjectsComeWithAKeepFileAndWithoutAReference) {
  const auto clone = Repo::init(dir / "clone");
  const auto delivery = deliver(clone.path() / ".git");
  EXPECT_EQ(delivery.verdict.branches.at("main"), tip);
  EXPECT_TRUE(fs::exists(delivery.keep)) << delivery.keep;
  EXPECT_EQ(clone.refs(), "");
  clone.git({"branch", "got", tip});
  clone.fsck();
  // Again: everything is there.
  EXPECT_EQ(deliver(clone.path() / ".git").keep, "");
}

TEST_F(RemoteTest, WhatWouldRunOnTheHostIsNamedOnce) {
  const auto clone = Repo::clone(guest, dir / "clone");
  EXPECT_TRUE(deliver(clone.path() / ".git").gated.empty());
  guest.git({"switch", "--quiet", "-c", "work"});
  guest.commit(".envrc", "evil\n");
  guest.git({"branch", "again"});
  guest.commit("c.txt", "plain\n");
  const auto delivery = deliver(clone.path() / ".git");
  ASSERT_EQ(delivery.gated.size(), 1u);
  EXPECT_EQ(delivery.gated[0].kind, "shell-environment");
  EXPECT_EQ(deliver(Repo::init(dir / "empty").path() / ".git").gated.size(), 1u);
  fs::remove(delivery.keep);
}

/// A clone checks the guest's branch out: names that sort before it do not keep it from being looked at.
TEST_F(RemoteTest, ManyBranchesHideNothingOfTheOneInHand) {
  const auto empty = Repo::init(dir / "empty");
  guest.git({"switch", "--quiet", "-c", "decoys"});
  for (int i = 0; i < 70; ++i) {
    guest.commit("n.txt", std::to_string(i));
    guest.git({"branch", "a" + std::to_string(i)});
  }
  EXPECT_FALSE(deliver(empty.path() / ".git").all_judged);
  guest.git({"switch", "--quiet", "main"});
  guest.commit(".envrc", "evil\n");
  const auto delivery = deliver(empty.path() / ".git");
  EXPECT_FALSE(delivery.all_judged);
  ASSERT_EQ(delivery.gated.size(), 1u);
  EXPECT_EQ(delivery.gated[0].path, ".envrc");
}

TEST_F(RemoteTest, BareAndLinkedRepositoriesAreFine) {
  const auto bare = Repo::init(dir / "bare.git");
  bare.git({"config", "core.bare", "true"});
  EXPECT_NE(deliver(bare.path() / ".git").keep, "");
  auto user = Repo::init(dir / "user");
  user.commit("x", "x\n");
  user.git({"worktree", "add", "--quiet", "-b", "w", (dir / "linked").string()});
  EXPECT_NE(deliver(user.path() / ".git/worktrees/linked").keep, "");
  EXPECT_TRUE(user.git_ok({"cat-file", "-e", tip}));
}

TEST_F(RemoteTest, WhatIsNoWholeRepositoryIsRefused) {
  fs::create_directories(dir / "user/.git/sub");
  EXPECT_THAT(refusal(dir / "user/.git/sub"), HasSubstr("is not a git repository"));
  const auto user = Repo::init(dir / "user");
  user.commit("x", "x\n");
  // Git would find the repository above: that is not the one that was named.
  EXPECT_THAT(refusal(user.path()), HasSubstr("is not a git repository"));
  guest.git({"clone", "--quiet", "--depth=1", "file://" + guest.path().string(), (dir / "shallow").string()});
  EXPECT_THAT(refusal(dir / "shallow/.git"), HasSubstr("fetch --unshallow"));
}

TEST_F(RemoteTest, ARejectedBranchStaysBehindAndAMalformedPackIsRefused) {
  const auto clone = Repo::init(dir / "clone");
  FakeStreams lying([&](const guest::ExecSpec&) {
    return serve(advertisement({{std::string(40, 'a'), "refs/heads/x"}}),
                 band(1, make_pack({pack_entry(PackType::tree, "40000 .git")})) + "0000");
  });
  EXPECT_THROW(
      deliver_remote(request, clone.path() / ".git", lying, no_progress(), Deadline::after(std::chrono::seconds(30))),
      Error);
  EXPECT_FALSE(fs::exists(clone.path() / ".git/objects/pack") && !fs::is_empty(clone.path() / ".git/objects/pack"));
}

}  // namespace
}  // namespace agentvm::sync
