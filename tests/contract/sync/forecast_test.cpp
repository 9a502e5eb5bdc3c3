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
