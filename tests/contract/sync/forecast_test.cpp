// What sync says a merge would meet, beside the merge that git then does.
#include "sync/forecast.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/sync.hpp"
#include "tests/contract/sync/git_fixture.hpp"
#include "tests/support/fake_streams.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using test::FakeStreams;
using test::Repo;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ForecastTest : public testing::Test {
 protected:
  ForecastTest() : host(Repo::init(dir / "host")), guest(dir / "guest") {
    host.write("both.txt", "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    host.write("sub/other.txt", "1\n");
    host.git({"add", "-A"});
    host.git({"commit", "--quiet", "-m", "first"});
    guest = Repo::clone(host, dir / "guest");
  }
  SyncOutcome sync() {
    const SyncRequest request{.repository = host.path(),
                              .sandbox = SandboxName::parse("box"),
                              .guest_path = guest.path().string(),
                              .libexec = AGENTVM_TEST_LIBEXEC,
                              .scratch = dir / "scratch"};
    const auto tip = host.tip(), status = host.status();
    const auto outcome = sync_now(request, streams, no_progress(), Deadline::after(std::chrono::seconds(60)));
    EXPECT_EQ(host.tip(), tip);
    EXPECT_EQ(host.status(), status);
    EXPECT_EQ(outcome.exit_code(), 6);
    host.fsck();
    return outcome;
  }

  test::TempDir dir;
  Repo host, guest;
  FakeStreams streams;
};

TEST_F(ForecastTest, DivergedHistoriesNameWhatConflictsAndGitAgrees) {
  guest.commit("both.txt", "guest\n2\n3\n4\n5\n6\n7\n8\n9\n");
  guest.commit("sub/other.txt", "guest\n");
  host.commit("both.txt", "host\n2\n3\n4\n5\n6\n7\n8\n9\n");
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::conflict);
  EXPECT_THAT(outcome.conflicts, ElementsAre("both.txt"));
  EXPECT_THAT(outcome.reason, HasSubstr("1 file would conflict"));
  EXPECT_THAT(to_text(outcome), HasSubstr("would conflict: both.txt"));
  EXPECT_FALSE(host.git_ok({"merge", "--quiet", "-m", "merge", "refs/agentvm/box/main"}));
  EXPECT_EQ(host.git({"diff", "--name-only", "--diff-filter=U"}), "both.txt");
}

TEST_F(ForecastTest, DivergedHistoriesThatMergeSaySo) {
  guest.commit("both.txt", "guest\n2\n3\n4\n5\n6\n7\n8\n9\n");
  host.commit("both.txt", "1\n2\n3\n4\n5\n6\n7\n8\nhost\n");
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::diverged);
  EXPECT_THAT(outcome.conflicts, IsEmpty());
  EXPECT_THAT(outcome.reason, HasSubstr("without a conflict"));
  EXPECT_TRUE(host.git_ok({"merge", "--quiet", "-m", "merge", "refs/agentvm/box/main"}));
}

TEST_F(ForecastTest, UncommittedChangesCount) {
  guest.commit("both.txt", "guest\n2\n3\n4\n5\n6\n7\n8\n9\n");
  host.write("both.txt", "mine\n2\n3\n4\n5\n6\n7\n8\n9\n");
  const auto index = read_file(host.path() / ".git/index");
  const auto objects = host.git({"rev-list", "--all", "--objects"});
  auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::dirty);
  EXPECT_THAT(outcome.conflicts, ElementsAre("both.txt"));
  // The change is the user's alone: not an object of theirs is made of it.
  EXPECT_FALSE(host.git_ok({"cat-file", "-e", host.git({"hash-object", "both.txt"})}));
  EXPECT_EQ(host.git({"diff", "--cached", "--name-only"}), "");
  host.write("both.txt", "1\n2\n3\n4\n5\n6\n7\n8\nmine\n");
  outcome = sync();
  EXPECT_EQ(outcome.result, Result::dirty);
  EXPECT_THAT(outcome.conflicts, IsEmpty());
  EXPECT_THAT(outcome.reason, HasSubstr("without a conflict"));
}

/// A branch that is not checked out: two commits are merged, whatever is uncommitted in the tree.
class ForecastElsewhere : public ForecastTest {
 protected:
  ForecastElsewhere() {
    host.git({"branch", "side"});
    guest.git({"fetch", "--quiet", "origin", "side:side"});
  }
  /// A commit on `side`, then back to where it was.
  void commit(const Repo& repo, const std::string& name, const std::string& content) {
    const auto before = repo.git({"symbolic-ref", "--short", "HEAD"});
    repo.git({"switch", "--quiet", "side"});
    repo.commit(name, content);
    repo.git({"switch", "--quiet", before});
  }
  SyncOutcome run(std::optional<std::string> branch = std::nullopt) {
    const SyncRequest request{.repository = host.path(),
                              .sandbox = SandboxName::parse("box"),
                              .guest_path = guest.path().string(),
                              .libexec = AGENTVM_TEST_LIBEXEC,
                              .scratch = dir / "scratch",
                              .branch = std::move(branch)};
    const auto before = host.git({"for-each-ref", "refs/heads"}), status = host.status();
    auto outcome = sync_now(request, streams, no_progress(), Deadline::after(std::chrono::seconds(60)));
    EXPECT_EQ(host.git({"for-each-ref", "refs/heads"}), before);
    EXPECT_EQ(host.status(), status);
    return outcome;
  }
};

TEST_F(ForecastElsewhere, OfTheGuestsOwnBranchAndOfTheOneAskedFor) {
  commit(guest, "both.txt", "guest\n");
  commit(host, "both.txt", "host\n");
  host.write("sub/other.txt", "not committed\n");
  guest.git({"switch", "--quiet", "side"});
  auto outcome = run();
  EXPECT_EQ(outcome.branch, "side");
  EXPECT_EQ(outcome.result, Result::conflict);
  EXPECT_EQ(outcome.exit_code(), 6);
  EXPECT_THAT(outcome.conflicts, ElementsAre("both.txt"));
  EXPECT_THAT(outcome.reason, HasSubstr("1 file would conflict"));
  EXPECT_THAT(outcome.commands, testing::Contains("git switch side && git merge refs/agentvm/box/side"));
  EXPECT_THAT(outcome.apart, IsEmpty());
  guest.git({"switch", "--quiet", "main"});
  for (int round = 0; round < 2; ++round) {  // whether or not it brought something
    outcome = run("side");
    EXPECT_EQ(outcome.result, Result::conflict);
    EXPECT_EQ(outcome.exit_code(), 6);
    EXPECT_THAT(outcome.conflicts, ElementsAre("both.txt"));
    EXPECT_THAT(outcome.commands, testing::Contains("git switch side && git merge refs/agentvm/box/side"));
    commit(guest, "sub/other.txt", std::to_string(round));
  }
}

TEST_F(ForecastElsewhere, OfBranchesThatNobodyAskedForIsToldEachTime) {
  commit(guest, "both.txt", "guest\n");
  commit(host, "both.txt", "host\n");
  for (int round = 0; round < 2; ++round) {
    const auto outcome = run();
    EXPECT_EQ(outcome.exit_code(), 0);
    EXPECT_EQ(outcome.result, round == 0 ? Result::updated : Result::up_to_date);
    ASSERT_EQ(outcome.apart.size(), 1u) << to_text(outcome);
    EXPECT_EQ(outcome.apart[0].branch, "side");
    EXPECT_EQ(outcome.apart[0].standing, Standing::diverged);
    EXPECT_EQ(outcome.apart[0].conflicts, std::vector<std::string>{"both.txt"});
    EXPECT_EQ(to_json(outcome)["apart"][0]["conflicts"], Json({"both.txt"}));
    EXPECT_THAT(to_text(outcome), HasSubstr("would conflict: both.txt"));
    if (round == 0) {  // a fast-forward is not what helps
      EXPECT_THAT(outcome.commands, testing::Contains("git switch side && git merge refs/agentvm/box/side"));
    }
  }
  host.git({"switch", "--quiet", "side"});
  host.git({"reset", "--quiet", "--hard", "HEAD~1"});
  host.commit("sub/other.txt", "host\n");
  host.git({"switch", "--quiet", "main"});
  const auto outcome = run();
  ASSERT_EQ(outcome.apart.size(), 1u);
  EXPECT_EQ(outcome.apart[0].conflicts, std::vector<std::string>{});
}

/// Attributes that the guest committed name a driver of the user's: the forecast has neither.
TEST_F(ForecastTest, NoMergeDriverRuns) {
  const auto canary = (dir / "canary").string();
  host.git({"config", "merge.evil.driver", "touch " + canary});
  host.commit(".gitattributes", "*.txt merge=evil\n");
  guest.commit(".gitattributes", "*.txt merge=evil\n");
  guest.commit("both.txt", "guest\n");
  host.commit("both.txt", "host\n");
  EXPECT_THAT(sync().conflicts, ElementsAre("both.txt"));
  EXPECT_FALSE(fs::exists(canary));
}

}  // namespace
}  // namespace agentvm::sync
