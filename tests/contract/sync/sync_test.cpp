// sync_now with a real host repository, a real guest clone served by git-upload-pack, and the real agentvm-git child.
#include "sync/sync.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/workspace.hpp"
#include "tests/contract/sync/sync_fixture.hpp"
#include "tests/support/fake_streams.hpp"
#include "tests/support/hostile_text.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using test::FakeStreams;
using test::Repo;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class SyncTest : public test::HostAndGuest {
 protected:
  SyncOutcome sync() { return sync(request()); }
  SyncOutcome sync(const SyncRequest& wanted) {
    return sync_now(wanted, streams, no_progress(), Deadline::after(std::chrono::seconds(60)));
  }
  std::string mirror(const std::string& branch) { return host.tip("refs/agentvm/box/" + branch); }
  /// Nothing but the lock file stays.
  void expect_swept() {
    for (const auto& entry : fs::directory_iterator(dir / "scratch")) EXPECT_EQ(entry.path().filename(), "sync.lock");
  }

  FakeStreams streams;
};

TEST_F(SyncTest, NothingNewIsUpToDate) {
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::up_to_date);
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_EQ(mirror("main"), host.tip());
  EXPECT_EQ(sync().refs.size(), 0u);
  expect_swept();
}

TEST_F(SyncTest, BranchesThatCameFromTheHostAreNoNews) {
  host.git({"branch", "side"});
  host.commit("b.txt", "two\n");
  guest.git({"pull", "--quiet"});
  guest.git({"branch", "side", "HEAD~1"});
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::up_to_date) << to_text(outcome);
  EXPECT_EQ(mirror("side"), host.tip("side"));
}

TEST_F(SyncTest, OneCommitMovesTheCleanBranch) {
  const auto before = host.tip();
  const auto tip = guest.commit("b.txt", "two\nlines\n", "add b");
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::updated);
  EXPECT_TRUE(outcome.moved);
  EXPECT_EQ(outcome.old_tip, before);
  EXPECT_EQ(outcome.new_tip, tip);
  EXPECT_EQ(outcome.commits, 1u);
  EXPECT_EQ(outcome.files_changed, 1u);
  EXPECT_EQ(outcome.insertions, 2u);
  EXPECT_EQ(outcome.objects, 3u);
  EXPECT_EQ(host.tip(), tip);
  EXPECT_EQ(host.read("b.txt"), "two\nlines\n");
  EXPECT_EQ(host.status(), "");
  EXPECT_EQ(mirror("main"), tip);
  EXPECT_THAT(to_text(outcome), HasSubstr("add b"));
  EXPECT_EQ(to_json(outcome)["result"], "updated");
  host.fsck();
  expect_swept();
}

TEST_F(SyncTest, DryRunChangesNothing) {
  guest.commit("b.txt", "two\n");
  const auto before = host.refs();
  auto wanted = request();
  wanted.dry_run = true;
  const auto outcome = sync(wanted);
  EXPECT_EQ(outcome.result, Result::updated);
  EXPECT_FALSE(outcome.moved);
  EXPECT_EQ(outcome.commits, 1u);
  EXPECT_THAT(to_text(outcome), HasSubstr("would update main"));
  EXPECT_EQ(host.refs(), before);
  EXPECT_FALSE(fs::exists(host.path() / "b.txt"));
  EXPECT_FALSE(host.git_ok({"cat-file", "-e", outcome.new_tip}));
}

TEST_F(SyncTest, ManyCommits) {
  for (int i = 0; i < 300; ++i)
    guest.commit("dir" + std::to_string(i % 7) + "/f" + std::to_string(i % 30), std::to_string(i),
                 "change " + std::to_string(i));
  const auto outcome = sync();
  EXPECT_EQ(outcome.commits, 300u);
  EXPECT_EQ(outcome.log.size(), 20u);
  EXPECT_EQ(host.tip(), guest.tip());
  host.fsck();
}

TEST_F(SyncTest, OnlyWhatIsNewIsSentHoweverMuchTheHostMovedOn) {
  std::string base(200'000, 'x');
  for (std::size_t i = 0; i < base.size(); ++i) base[i] = static_cast<char>('a' + (i * i * 2654435761u >> 7) % 26);
  host.commit("big", base);
  guest.git({"pull", "--quiet"});
  for (int i = 0; i < 400; ++i) host.git({"commit", "--quiet", "--allow-empty", "-m", "host " + std::to_string(i)});
  guest.commit("b.txt", "two\n");
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::diverged);
  EXPECT_EQ(outcome.objects, 3u);
  EXPECT_LT(outcome.bytes, 10'000u);
}

TEST_F(SyncTest, DivergedIsReportedWithBothWaysOn) {
  const auto own = host.commit("h.txt", "host\n");
  const auto tip = guest.commit("g.txt", "guest\n");
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::diverged);
  EXPECT_EQ(outcome.exit_code(), 6);
  EXPECT_EQ(outcome.files_changed, 1u);
  EXPECT_THAT(outcome.commands, ElementsAre("git merge refs/agentvm/box/main", "git rebase refs/agentvm/box/main"));
  EXPECT_EQ(host.tip(), own);
  EXPECT_EQ(mirror("main"), tip);
  host.git({"merge", "--quiet", "-m", "merge", "refs/agentvm/box/main"});
  EXPECT_EQ(sync().result, Result::up_to_date);
}

TEST_F(SyncTest, DirtyTreeIsNotTouched) {
  guest.commit("b.txt", "two\n");
  host.write("a.txt", "mine\n");
  const auto before = host.tip();
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::dirty);
  EXPECT_EQ(outcome.exit_code(), 6);
  EXPECT_THAT(outcome.commands, Contains(HasSubstr("git stash && agentvm sync box")));
  EXPECT_EQ(host.tip(), before);
  EXPECT_EQ(host.read("a.txt"), "mine\n");
  EXPECT_EQ(mirror("main"), guest.tip());
}

TEST_F(SyncTest, UntrackedAndIgnoredFilesInTheWayAreNotOverwritten) {
  guest.commit("new.txt", "guest\n");
  guest.commit("deep/er/file", "guest\n");
  guest.git({"add", "-f", "new.txt"});
  host.write("new.txt", "precious\n");
  host.write("deep", "a file where a folder must be\n");
  host.write(".git/info/exclude", "new.txt\n");
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::dirty);
  EXPECT_THAT(outcome.conflicts, ElementsAre("deep", "new.txt"));
  EXPECT_EQ(host.read("new.txt"), "precious\n");
  EXPECT_EQ(host.tip("main"), host.tip("HEAD"));
}

TEST_F(SyncTest, MergeInProgressOnTheHost) {
  guest.commit("b.txt", "two\n");
  host.write(".git/MERGE_HEAD", host.tip() + "\n");
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::dirty);
  EXPECT_THAT(outcome.reason, HasSubstr("a merge is in progress"));
}

TEST_F(SyncTest, AskedForBranch) {
  guest.git({"branch", "other"});
  auto wanted = request();
  wanted.branch = "other";
  EXPECT_EQ(sync(wanted).branch, "other");
  wanted.branch = "none";
  try {
    sync(wanted);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
  }
}

TEST_F(SyncTest, DeletedBranchKeepsOurReference) {
  guest.git({"branch", "gone"});
  sync();
  guest.git({"branch", "-D", "gone"});
  const auto outcome = sync();
  EXPECT_THAT(outcome.gone, ElementsAre("gone"));
  EXPECT_THAT(to_text(outcome), HasSubstr("no more in the sandbox: gone; refs/agentvm/box/gone stays"));
  EXPECT_EQ(mirror("gone"), host.tip());
}

TEST_F(SyncTest, RewrittenHistoryKeepsTheOldTip) {
  guest.git({"switch", "--quiet", "-c", "work"});
  const auto old_tip = guest.commit("w.txt", "1\n");
  sync();
  guest.git({"commit", "--quiet", "--amend", "-m", "again"});
  const auto outcome = sync();
  ASSERT_EQ(outcome.refs.size(), 1u);
  EXPECT_THAT(outcome.refs[0].kept_as, HasSubstr("refs/agentvm/box/old/"));
  EXPECT_EQ(host.tip(outcome.refs[0].kept_as), old_tip);
  EXPECT_EQ(mirror("work"), guest.tip());
  host.fsck();
}

TEST_F(SyncTest, BranchThatBecomesAFolderDisplacesTheOldReference) {
  guest.git({"branch", "topic"});
  sync();
  guest.git({"branch", "-m", "topic", "topic/one"});
  const auto outcome = sync();
  EXPECT_EQ(mirror("topic/one"), host.tip());
  EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", "refs/agentvm/box/topic"}));
  EXPECT_THAT(host.refs(), testing::ContainsRegex("refs/agentvm/box/old/[0-9TZ]+/topic"));
  guest.git({"branch", "-m", "topic/one", "topic"});
  sync();
  EXPECT_EQ(mirror("topic"), host.tip());
}

TEST_F(SyncTest, ReservedNamesAreRejectedAndTheRestGoesOn) {
  for (const char* name : {"wip", "old/1", "tags/v1", "fine"}) guest.git({"branch", name});
  const auto outcome = sync();
  EXPECT_EQ(outcome.rejected.size(), 3u);
  EXPECT_EQ(mirror("fine"), host.tip());
  EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", "refs/agentvm/box/wip"}));
  EXPECT_THAT(to_text(outcome), HasSubstr("rejected refs/heads/wip"));
}

TEST_F(SyncTest, WorktreeCheckoutFollowsItsOwnBranch) {
  host.git({"worktree", "add", "--quiet", "-b", "side", (dir / "side").string()});
  guest.git({"switch", "--quiet", "-c", "side"});
  const auto tip = guest.commit("s.txt", "s\n");
  auto wanted = request();
  wanted.repository = dir / "side";
  const auto outcome = sync(wanted);
  EXPECT_TRUE(outcome.moved);
  EXPECT_EQ(host.tip("refs/heads/side"), tip);
  EXPECT_EQ(mirror("side"), tip);
  EXPECT_TRUE(fs::exists(dir / "side" / "s.txt"));
  EXPECT_EQ(host.status(), "");
}

TEST_F(SyncTest, HostObjectsInAlternates) {
  host.git({"clone", "--quiet", "--shared", host.path().string(), (dir / "shared").string()});
  const auto tip = guest.commit("b.txt", "two\n");
  auto wanted = request();
  wanted.repository = dir / "shared";
  EXPECT_TRUE(sync(wanted).moved);
  EXPECT_EQ(Repo(dir / "shared").tip(), tip);
}

TEST_F(SyncTest, FolderOfTheTreeAndDetachedHead) {
  host.commit("sub/x", "x\n");
  guest.git({"pull", "--quiet"});
  host.git({"switch", "--quiet", "--detach"});
  guest.commit("b.txt", "two\n");
  auto wanted = request();
  wanted.repository = host.path() / "sub";
  const auto outcome = sync(wanted);
  EXPECT_EQ(outcome.result, Result::updated);
  EXPECT_FALSE(outcome.moved);
  EXPECT_THAT(outcome.reason, HasSubstr("detached"));
}

TEST_F(SyncTest, UnbornHostBranch) {
  auto empty = Repo::init(dir / "empty");
  auto wanted = request();
  wanted.repository = empty.path();
  const auto outcome = sync(wanted);
  EXPECT_TRUE(outcome.moved) << to_text(outcome);
  EXPECT_EQ(empty.tip(), guest.tip());
  EXPECT_EQ(empty.read("a.txt"), "one\n");
}

TEST_F(SyncTest, EmptyGuest) {
  Repo::init(dir / "void");
  auto wanted = request();
  wanted.guest_path = (dir / "void").string();
  EXPECT_EQ(sync(wanted).result, Result::up_to_date);
}

TEST_F(SyncTest, GuestTextIsCleaned) {
  guest.commit("b.txt", "two\n", "evil \x1b]0;title\x07 \xe2\x80\xae subject");
  const auto outcome = sync();
  const auto text = to_text(outcome) + dump_json(to_json(outcome));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find("\xe2\x80\xae"), std::string::npos);
  EXPECT_THAT(to_text(outcome), HasSubstr("\\x1b"));
}

/// As the subject of a commit, and as the name of a file that is held by the gate or in the way.
TEST_F(SyncTest, NothingOfTheSharedCorpusIsShownRaw) {
  constexpr std::size_t name_limit_bytes = 200;
  int number = 0;
  for (const auto& text : test::hostile_texts()) {
    if (text.find('\0') != std::string::npos) continue;  // in no name and no message of git's
    const auto file = fmt::format("f{}{}", ++number, text.substr(0, name_limit_bytes));
    if (file.find('/') != std::string::npos) continue;
    guest.write(file, "x", true);
    guest.git({"add", "--", file});
    guest.git({"commit", "--quiet", "--message=" + text});
    if (number % 2 == 0) host.write(file, "mine");
    std::string shown;
    try {
      const auto outcome = sync();
      shown = to_text(outcome) + dump_json(to_json(outcome));
    } catch (const Error& error) {
      shown = error.what();
    }
    EXPECT_EQ(test::harm_in(shown), "") << testing::PrintToString(text.substr(0, 60));
    fs::remove(host.path() / file);
  }
}

TEST_F(SyncTest, HooksAndConfigOfTheGuestCloneRunNothing) {
  const auto canary = (dir / "canary").string();
  for (const char* hook : {"post-merge", "post-checkout", "reference-transaction", "pre-auto-gc", "post-index-change"})
    host.write(std::string(".git/hooks/") + hook, "#!/bin/sh\ntouch " + canary + "\n", true);
  guest.commit("b.txt", "two\n");
  EXPECT_TRUE(sync().moved);
  EXPECT_FALSE(fs::exists(canary));
}

/// Whatever the host's git would obey there: it never looks.
TEST_F(SyncTest, ConfigurationOfTheGuestsCloneRunsNothingHere) {
  const auto canary = (dir / "canary").string();
  for (const char* key : {"core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass",
                          "filter.evil.clean", "filter.evil.process", "diff.external", "gpg.program"})
    guest.git({"config", key, "touch " + canary + ";"});
  guest.write(".git/info/attributes", "* filter=evil diff=evil\n");
  guest.write(".git/hooks/reference-transaction", "#!/bin/sh\ntouch " + canary + "\n", true);
  EXPECT_TRUE(sync().result == Result::up_to_date);
  guest.write("a.txt", "two\n");  // git would ask the filter about it
  sync();
  EXPECT_FALSE(fs::exists(canary));
}

}  // namespace
}  // namespace agentvm::sync
