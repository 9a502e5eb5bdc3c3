// What a sandbox that is gone leaves in the repository, on the repository's own git.
#include "sync/forget.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/contract/sync/git_fixture.hpp"

namespace agentvm::sync {
namespace {

using test::Repo;
using testing::ElementsAre;
using testing::IsEmpty;

class ForgetTest : public testing::Test {
 protected:
  Deadline soon() { return Deadline::after(milliseconds(30'000)); }
  test::TempDir folder;
  Repo repo = Repo::init(folder / "repo");
};

TEST_F(ForgetTest, OnlyWhatTheRepositoryHasElsewhereGoes) {
  const auto base = repo.commit("a", "1");
  repo.git({"update-ref", "refs/agentvm/box/main", base});
  repo.git({"update-ref", "refs/agentvm/other/main", base});
  repo.git({"checkout", "-q", "--detach"});
  const auto alone = repo.commit("b", "2");
  const auto tagged = repo.commit("c", "3");
  repo.git({"checkout", "-q", "main"});
  repo.git({"update-ref", "refs/agentvm/box/side", alone});
  repo.git({"update-ref", "refs/agentvm/box/wip/20260101T000000Z", tagged});

  EXPECT_THAT(forget_what_is_had(repo.path(), "box", soon()),
              ElementsAre("refs/agentvm/box/side", "refs/agentvm/box/wip/20260101T000000Z"));
  EXPECT_FALSE(repo.git_ok({"rev-parse", "-q", "--verify", "refs/agentvm/box/main"}));
  EXPECT_TRUE(repo.git_ok({"rev-parse", "-q", "--verify", "refs/agentvm/other/main"})) << "another sandbox's";

  repo.git({"tag", "kept", tagged});
  EXPECT_THAT(forget_what_is_had(repo.path(), "box", soon()), IsEmpty());
  EXPECT_FALSE(repo.git_ok({"rev-parse", "-q", "--verify", "refs/agentvm/box/side"}));
  EXPECT_THAT(forget_what_is_had(repo.path(), "box", soon()), IsEmpty()) << "again";
}

TEST_F(ForgetTest, AFreshCloneHasNothingOfItsOwn) {
  repo.commit("a", "1");
  const auto clone = Repo::clone(repo, folder / "clone");
  EXPECT_FALSE(has_work_of_its_own(clone.path(), soon()));
  clone.write("new", "untracked");
  EXPECT_TRUE(has_work_of_its_own(clone.path(), soon()));
  clone.git({"add", "new"});
  clone.git({"stash", "-q"});
  EXPECT_TRUE(has_work_of_its_own(clone.path(), soon())) << "a stash";
  clone.git({"stash", "drop", "-q"});
  EXPECT_FALSE(has_work_of_its_own(clone.path(), soon()));
}

TEST_F(ForgetTest, CommitsOfAnyKindAreItsOwn) {
  repo.commit("a", "1");
  const auto clone = Repo::clone(repo, folder / "clone");
  clone.git({"checkout", "-q", "--detach"});
  const auto tip = clone.commit("b", "2");
  EXPECT_TRUE(has_work_of_its_own(clone.path(), soon())) << "a detached HEAD";
  clone.git({"checkout", "-q", "main"});
  EXPECT_FALSE(has_work_of_its_own(clone.path(), soon()));
  clone.git({"update-ref", "refs/agentvm/box/main", tip});
  EXPECT_TRUE(has_work_of_its_own(clone.path(), soon())) << "what waits for a decision";
}

}  // namespace
}  // namespace agentvm::sync
