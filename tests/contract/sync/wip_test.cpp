// Uncommitted work with real repositories: the guest's own git collects it, the quarantine brings it, and the host
// lists, shows, applies and drops it.
#include "sync/wip.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/snapshot.hpp"
#include "sync/wip_apply.hpp"
#include "tests/contract/sync/git_fixture.hpp"
#include "tests/support/fake_streams.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using test::FakeStreams;
using test::Repo;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Result = ApplyOutcome::Result;

class HandClock : public Clock {
 public:
  SteadyTime steady() override { return {}; }
  std::int64_t unix_seconds() override { return now; }
  void sleep(milliseconds) override {}
  std::int64_t now = 1'769'846'950;  // 20260131T080910Z
};

class WipTest : public testing::Test {
 protected:
  WipTest() : host(Repo::init(dir / "host")), guest(dir / "guest") {
    host.write("a.txt", "one\n");
    host.write(".gitignore", "ignored\n");
    host.git({"add", "-A"});
    host.git({"commit", "--quiet", "-m", "first"});
    guest = Repo::clone(host, dir / "guest");
  }

  SnapshotOutcome snapshot(WipKind kind = WipKind::kept) {
    ++clock.now;
    const SnapshotRequest request{.repository = host.path(),
                                  .sandbox = SandboxName::parse("box"),
                                  .libexec = AGENTVM_TEST_LIBEXEC,
                                  .scratch = dir / "scratch",
                                  .kind = kind,
                                  .guest_path = guest.path().string(),
                                  .guest_store = (dir / "store").string(),
                                  .clock = &clock};
    auto outcome = take_snapshots(request, streams, no_progress(), limit());
    EXPECT_FALSE(fs::exists(dir / "store")) << "what was made for the way is gone";
    return outcome;
  }
  std::vector<WipEntry> list() { return list_wip(HostGit(host.path()), "box", limit()); }
  ApplyOutcome apply(bool accept = false) {
    return apply_wip({.repository = host.path(), .entry = list().at(0), .scratch = dir / "apply", .accept = accept},
                     limit());
  }
  static Deadline limit() { return Deadline::after(std::chrono::seconds(60)); }

  test::TempDir dir;
  Repo host, guest;
  FakeStreams streams;
  HandClock clock;
};

TEST_F(WipTest, StagedChangedAndUntrackedWorkComesHomeAndTheGuestStaysAsItIs) {
  guest.write("a.txt", "staged\n");
  guest.git({"add", "a.txt"});
  guest.write("a.txt", "changed\n");
  guest.write("sub/new", "untracked\n");
  guest.write("ignored", "secret\n");
  guest.git({"rm", "--quiet", "--cached", ".gitignore"});
  const auto before = guest.status(), refs = guest.refs(), objects = guest.git({"count-objects"});
  const auto outcome = snapshot();
  EXPECT_THAT(outcome.refs, ElementsAre("refs/agentvm/box/wip/20260131T080911Z"));
  EXPECT_THAT(outcome.warnings, IsEmpty());
  EXPECT_EQ(guest.status(), before);
  EXPECT_EQ(guest.refs(), refs);
  EXPECT_EQ(guest.git({"count-objects"}), objects);
  EXPECT_EQ(guest.git({"show", ":a.txt"}), "staged");
  const auto wip = outcome.refs[0];
  EXPECT_EQ(host.git({"show", wip + ":a.txt"}), "changed");
  EXPECT_EQ(host.git({"show", wip + ":sub/new"}), "untracked");
  EXPECT_FALSE(host.git_ok({"cat-file", "-e", wip + ":ignored"}));
  EXPECT_TRUE(host.git_ok({"cat-file", "-e", wip + ":.gitignore"})) << "still on disk, so still work";
  EXPECT_EQ(host.tip(wip + "^"), host.tip());
  EXPECT_EQ(host.status(), "") << "nothing of the user's moved";
  host.fsck();
  auto entries = list();
  ASSERT_THAT(entries, SizeIs(1));
  count_files(HostGit(host.path()), entries, limit());
  EXPECT_EQ(entries[0].branch, "main");
  EXPECT_EQ(entries[0].base, host.tip());
  EXPECT_EQ(entries[0].files_changed, 2u);
  EXPECT_EQ(entries[0].kind, WipKind::kept);
}

TEST_F(WipTest, NothingUncommittedMakesNothing) {
  EXPECT_THAT(snapshot().refs, IsEmpty());
  guest.commit("b.txt", "committed\n");
  EXPECT_THAT(snapshot().refs, IsEmpty());
  EXPECT_THAT(list(), IsEmpty());
}

TEST_F(WipTest, CommitsBelowComeAlong) {
  const auto tip = guest.commit("b.txt", "not synced\n");
  guest.write("b.txt", "more\n");
  const auto outcome = snapshot();
  EXPECT_EQ(host.tip(outcome.refs.at(0) + "^"), tip);
}

TEST_F(WipTest, TheSameStateIsKeptOnce) {
  guest.write("a.txt", "two\n");
  const auto first = snapshot();
  EXPECT_EQ(first.made, 1u);
  const auto again = snapshot();
  EXPECT_EQ(again.made, 0u);
  EXPECT_EQ(again.refs, first.refs);
  EXPECT_EQ(snapshot(WipKind::timer).refs, first.refs) << "what is kept serves the timer, too";
  guest.commit("b.txt", "x\n");
  EXPECT_EQ(snapshot().made, 1u) << "the same change upon another commit";
  guest.write("a.txt", "three\n");
  EXPECT_EQ(snapshot().made, 1u);
}

TEST_F(WipTest, ASnapshotOfTheTimerBecomesAKeptOne) {
  guest.write("a.txt", "two\n");
  EXPECT_THAT(snapshot(WipKind::timer).refs, ElementsAre("refs/agentvm/box/wip/20260131T080911Z.timer"));
  EXPECT_THAT(snapshot().refs, ElementsAre("refs/agentvm/box/wip/20260131T080911Z"));
  EXPECT_THAT(list(), SizeIs(1));
}

TEST_F(WipTest, TheTimerKeepsABoundedNumberAndNothingElseGoes) {
  guest.write("a.txt", "kept\n");
  snapshot();
  for (std::size_t i = 0; i < timer_times_limit + 3; ++i) {
    guest.write("a.txt", std::to_string(i) + "\n");
    snapshot(WipKind::timer);
  }
  const auto entries = list();
  EXPECT_THAT(entries, SizeIs(timer_times_limit + 1));
  EXPECT_EQ(host.git({"show", entries[0].ref + ":a.txt"}), std::to_string(timer_times_limit + 2));
  EXPECT_EQ(entries.back().kind, WipKind::kept);
}

TEST_F(WipTest, EveryWorkTreeIsLookedAt) {
  guest.git({"worktree", "add", "--quiet", "-b", "Feature/X", (dir / "second").string()});
  const Repo second(dir / "second");
  second.write("a.txt", "in the second\n");
  guest.write("a.txt", "in the first\n");
  const auto outcome = snapshot();
  ASSERT_THAT(outcome.refs, SizeIs(2));
  EXPECT_EQ(outcome.refs[0], "refs/agentvm/box/wip/20260131T080911Z");
  EXPECT_EQ(outcome.refs[1], "refs/agentvm/box/wip/20260131T080911Z-" + branch_label("Feature/X"));
  EXPECT_EQ(host.git({"show", outcome.refs[1] + ":a.txt"}), "in the second");
  ASSERT_THAT(outcome.worktrees, SizeIs(2));
  EXPECT_EQ(outcome.worktrees[1].branch, "Feature/X");
  EXPECT_EQ(outcome.worktrees[1].path, second.path().string());
  second.git({"checkout", "--quiet", "--detach"});
  second.write("a.txt", "detached\n");
  EXPECT_THAT(snapshot().refs, Contains(HasSubstr("-second")));
}

TEST_F(WipTest, ARepositoryWithoutACommitHasWorkAll) {
  const auto empty_host = Repo::init(dir / "empty");
  host = empty_host;
  guest = Repo::init(dir / "unborn");
  guest.write("a.txt", "first words\n");
  const auto outcome = snapshot();
  ASSERT_THAT(outcome.refs, SizeIs(1));
  EXPECT_EQ(list().at(0).base, "");
  EXPECT_EQ(snapshot().made, 0u);
  EXPECT_EQ(apply().result, Result::applied);
  EXPECT_EQ(host.read("a.txt"), "first words\n");
}

TEST_F(WipTest, NestedRepositoriesAndWhatCannotBeReadDoNotStopTheRest) {
  const auto nested = Repo::init(guest.path() / "nested");
  nested.commit("x", "x\n");
  Repo::init(guest.path() / "unborn");
  guest.write("a.txt", "two\n");
  const auto outcome = snapshot();
  ASSERT_THAT(outcome.refs, SizeIs(1));
  EXPECT_EQ(host.git({"show", outcome.refs[0] + ":a.txt"}), "two");
  EXPECT_EQ(host.git({"ls-tree", "-r", "--name-only", outcome.refs[0]}), ".gitignore\na.txt");
  EXPECT_THAT(outcome.warnings, Contains(HasSubstr("does not have a commit checked out")));
}

TEST_F(WipTest, ChangesWithinTheTickOfTheIndexAreSeen) {
  guest.write("a.txt", "two\n");
  guest.git({"add", "a.txt"});
  guest.git({"commit", "--quiet", "-m", "x"});
  const auto time = fs::last_write_time(guest.path() / ".git/index");
  guest.write("a.txt", "six\n");
  fs::last_write_time(guest.path() / "a.txt", time);
  EXPECT_EQ(host.git({"show", snapshot().refs.at(0) + ":a.txt"}), "six");
}

TEST_F(WipTest, HostileContentIsRefusedAndNothingLands) {
  guest.write("sub/x", "x\n");
  const auto blob = guest.git({"hash-object", "-w", "sub/x"});
  // A folder called .git: no index takes it, so the guest's git is replaced by one that lies.
  const auto evil = guest.git({"mktree"}, "100644 blob " + blob + "\tconfig\n");
  const auto tree = guest.git({"mktree"}, "040000 tree " + evil + "\t.git\n");
  const auto commit = guest.git({"commit-tree", tree, "-p", "HEAD", "-m", "Uncommitted work on main"});
  const auto head = guest.tip();
  FakeStreams lying([&](const guest::ExecSpec& spec) -> FakeStreams::Program {
    if (spec.argv.front() != "sh") return {};
    return [&](const guest::ExecSpec&, int io, int) {
      Repo::init(dir / "store");
      write_file_atomic(dir / "store/.git/objects/info/alternates", (guest.path() / ".git/objects").string() + "\n");
      Repo(dir / "store").git({"update-ref", "refs/heads/0", commit});
      write_all(io, "work\t0\t" + commit + "\t" + tree + "\t" + head + "\trefs/heads/main\twhole\t/workspace\nend\n",
                limit());
      return 0;
    };
  });
  const SnapshotRequest request{.repository = host.path(),
                                .sandbox = SandboxName::parse("box"),
                                .libexec = AGENTVM_TEST_LIBEXEC,
                                .scratch = dir / "scratch",
                                .guest_path = guest.path().string(),
                                .guest_store = (dir / "store").string(),
                                .clock = &clock};
  const auto refs = host.refs();
  EXPECT_THROW(take_snapshots(request, lying, no_progress(), limit()), Error);
  EXPECT_EQ(host.refs(), refs);
  EXPECT_FALSE(host.git_ok({"cat-file", "-e", commit}));
}

TEST_F(WipTest, ARemovedSandboxDoesNotComeBack) {
  const SnapshotRequest request{.repository = host.path(),
                                .sandbox = SandboxName::parse("box"),
                                .libexec = AGENTVM_TEST_LIBEXEC,
                                .scratch = dir / "gone/wip",
                                .guest_path = guest.path().string(),
                                .guest_store = (dir / "store").string()};
  EXPECT_THROW(take_snapshots(request, streams, no_progress(), limit()), Error);
  EXPECT_FALSE(fs::exists(dir / "gone"));
}

TEST_F(WipTest, AppliedIsUncommittedAndUnstaged) {
  guest.write("a.txt", "two\n");
  guest.write("sub/new", "new\n");
  guest.git({"rm", "--quiet", "--force", ".gitignore"});
  snapshot();
  host.write("own", "mine\n");
  host.git({"add", "own"});
  const auto tip = host.tip(), refs = host.refs();
  const auto outcome = apply();
  EXPECT_EQ(outcome.result, Result::applied) << outcome.reason;
  EXPECT_THAT(outcome.files, ElementsAre(".gitignore", "a.txt", "sub/new"));
  EXPECT_EQ(host.status(), " D .gitignore\n M a.txt\nA  own\n?? sub/new");
  EXPECT_EQ(host.read("a.txt"), "two\n");
  EXPECT_EQ(host.tip(), tip);
  EXPECT_EQ(host.refs(), refs);
  EXPECT_EQ(apply().result, Result::up_to_date);
  EXPECT_FALSE(fs::exists(dir / "apply/apply"));
}

/// The user started the sandbox with changes of their own lying about; they are in the snapshot, too.
TEST_F(WipTest, WhatBothSidesHaveIsNoConflict) {
  for (const auto& side : {host, guest}) {
    side.write("a.txt", "mine\n");
    side.write("untracked", "mine\n");
  }
  guest.write("fresh", "of the agent\n");
  snapshot();
  const auto outcome = apply();
  EXPECT_EQ(outcome.result, Result::applied) << outcome.reason;
  EXPECT_THAT(outcome.files, ElementsAre("fresh"));
}

TEST_F(WipTest, ChangesOfTheSameFileMergeOrAreNamed) {
  std::string lines;
  for (int i = 0; i < 20; ++i) lines += std::to_string(i) + "\n";
  host.commit("b.txt", lines);
  guest.git({"pull", "--quiet"});
  guest.write("b.txt", "top\n" + lines);
  guest.write("c.txt", "guest\n");
  snapshot();
  host.write("b.txt", lines + "bottom\n");
  EXPECT_EQ(apply().result, Result::applied);
  EXPECT_EQ(host.read("b.txt"), "top\n" + lines + "bottom\n");
  host.write("b.txt", "something else\n");
  host.write("c.txt", "mine\n");
  const auto before = host.status();
  const auto outcome = apply();
  EXPECT_EQ(outcome.result, Result::conflict);
  EXPECT_EQ(outcome.exit_code(), 6);
  EXPECT_THAT(outcome.conflicts, ElementsAre("b.txt", "c.txt"));
  EXPECT_EQ(host.status(), before);
  EXPECT_EQ(host.read("c.txt"), "mine\n");
}

/// Commits that were not synced stay out: the snapshot is what was uncommitted.
TEST_F(WipTest, OnlyTheUncommittedPartIsApplied) {
  guest.commit("committed.txt", "x\n");
  guest.write("a.txt", "two\n");
  snapshot();
  EXPECT_EQ(apply().result, Result::applied);
  EXPECT_EQ(host.status(), " M a.txt");
}

TEST_F(WipTest, FilesFoldersAndLinksInTheWayAreNamed) {
  guest.write("x/y", "guest\n");
  snapshot();
  host.write("x", "a file of mine\n");
  auto outcome = apply();
  EXPECT_EQ(outcome.result, Result::conflict);
  EXPECT_THAT(outcome.conflicts, Contains("x"));
  EXPECT_EQ(host.read("x"), "a file of mine\n");
  fs::remove(host.path() / "x");
  fs::create_directory(dir / "outside");
  fs::create_directory_symlink(dir / "outside", host.path() / "x");
  outcome = apply();
  EXPECT_EQ(outcome.result, Result::conflict);
  EXPECT_THAT(outcome.conflicts, Contains("x"));
  EXPECT_TRUE(fs::is_empty(dir / "outside"));
}

TEST_F(WipTest, IgnoredFilesOfTheUserStay) {
  guest.write(".gitignore", "");
  guest.write("ignored", "of the guest\n");
  snapshot();
  host.write("ignored", "my own secret\n");
  const auto outcome = apply();
  EXPECT_EQ(outcome.result, Result::conflict);
  EXPECT_THAT(outcome.conflicts, ElementsAre("ignored"));
  EXPECT_EQ(host.read("ignored"), "my own secret\n");
}

TEST_F(WipTest, WhatRunsOnTheHostIsAskedForAndAcceptedAsShown) {
  guest.write("Makefile", "all:\n\tevil\n");
  snapshot();
  auto outcome = apply();
  EXPECT_EQ(outcome.result, Result::gated);
  EXPECT_EQ(outcome.gated.at(0).path, "Makefile");
  EXPECT_FALSE(fs::exists(host.path() / "Makefile"));
  // A newer snapshot than the one that was shown: the timer may have taken it meanwhile.
  guest.write(".envrc", "evil\n");
  snapshot(WipKind::timer);
  outcome = apply(true);
  EXPECT_EQ(outcome.result, Result::gated);
  EXPECT_THAT(outcome.reason, HasSubstr("1 of these were not listed"));
  EXPECT_EQ(host.status(), "");
  EXPECT_EQ(apply(true).result, Result::applied);
  EXPECT_EQ(host.read("Makefile"), "all:\n\tevil\n");
}

TEST_F(WipTest, AnOperationInProgressIsNotDisturbed) {
  guest.write("a.txt", "two\n");
  snapshot();
  host.git({"checkout", "--quiet", "-b", "other"});
  host.commit("a.txt", "other\n");
  host.git({"checkout", "--quiet", "main"});
  host.commit("a.txt", "main\n");
  EXPECT_FALSE(host.git_ok({"merge", "other"}));
  const auto before = host.status();
  EXPECT_THAT(apply().reason, HasSubstr("in progress"));
  EXPECT_EQ(host.status(), before);
}

TEST_F(WipTest, NoFilterTextconvOrHookOfTheSnapshotRuns) {
  host.git({"config", "diff.evil.textconv", "touch " + (dir / "ran").string() + "; cat"});
  host.git({"config", "diff.external", "touch " + (dir / "ran").string()});
  write_file_atomic(host.path() / ".git/hooks/post-index-change", "#!/bin/sh\ntouch " + (dir / "ran").string() + "\n",
                    0755);
  guest.write("a.txt", "two\n");
  guest.write(".gitattributes", "*.txt diff=evil\n");
  snapshot();
  const auto text = show_wip(HostGit(host.path()), list().at(0), 1 << 20, limit());
  EXPECT_THAT(text.patch, HasSubstr("+two\n"));
  EXPECT_THAT(text.stat, HasSubstr("2 files changed"));
  apply();
  EXPECT_EQ(apply(true).result, Result::applied);
  EXPECT_FALSE(fs::exists(dir / "ran"));
}

TEST_F(WipTest, LongPatchesAreCut) {
  guest.write("big", std::string(50'000, 'x') + "\n" + std::string(50'000, 'y') + "\n");
  snapshot();
  const auto text = show_wip(HostGit(host.path()), list().at(0), 60'000, limit());
  EXPECT_TRUE(text.cut);
  EXPECT_LE(text.patch.size(), 60'000u);
  EXPECT_TRUE(text.patch.ends_with("x\n"));
}

TEST_F(WipTest, FoundByNameOrReferenceAndDropped) {
  guest.write("a.txt", "two\n");
  snapshot();
  guest.write("a.txt", "three\n");
  snapshot();
  const HostGit git(host.path());
  EXPECT_EQ(find_wip(git, "box", std::nullopt, limit()).name, "20260131T080912Z");
  EXPECT_EQ(find_wip(git, "box", "20260131T080911Z", limit()).name, "20260131T080911Z");
  EXPECT_EQ(find_wip(git, "box", "refs/agentvm/box/wip/20260131T080911Z", limit()).name, "20260131T080911Z");
  EXPECT_THROW(find_wip(git, "box", "20260131T080913Z", limit()), Error);
  EXPECT_THROW(find_wip(git, "other", std::nullopt, limit()), Error);
  drop_wip(open_host_repository(host.path(), limit()), git, {find_wip(git, "box", "20260131T080911Z", limit())},
           limit());
  EXPECT_THAT(list(), SizeIs(1));
}

TEST_F(WipTest, OldRescueReferencesAreListedAndBranchesCalledSoAreNot) {
  guest.write("a.txt", "two\n");
  const auto wip = host.tip(snapshot().refs.at(0));
  host.git({"update-ref", "refs/agentvm/box/rescue/2025-11-22T161141Z", wip});
  host.git({"update-ref", "refs/agentvm/box/rescue/mission", wip});
  host.git({"update-ref", "refs/agentvm/box/main", wip});
  host.git({"update-ref", "refs/agentvm/other/wip/20250101T000000Z", wip});
  const auto entries = list();
  ASSERT_THAT(entries, SizeIs(2));
  EXPECT_EQ(entries[1].name, "2025-11-22T161141Z");
  EXPECT_THAT(list_wip(HostGit(host.path()), std::nullopt, limit()), SizeIs(3));
}

TEST_F(WipTest, TheSurveyCountsWhatTheHostLacks) {
  guest.git({"worktree", "add", "--quiet", "-b", "feature", (dir / "second").string()});
  const Repo second(dir / "second");
  second.commit("b.txt", "1\n");
  second.commit("b.txt", "2\n");
  second.write("new", "x\n");
  second.write("a.txt", "y\n");
  auto seen = survey_worktrees(streams, guest.path().string(), {host.tip(), std::string(40, 'a')}, Survey::with_changes,
                               limit());
  ASSERT_THAT(seen, SizeIs(2));
  EXPECT_EQ(seen[0].pending, 0u);
  EXPECT_EQ(seen[0].changed, 0u);
  EXPECT_EQ(seen[1].branch, "feature");
  EXPECT_EQ(seen[1].pending, 2u);
  EXPECT_EQ(seen[1].changed, 2u);
  seen = survey_worktrees(streams, guest.path().string(), {second.tip()}, Survey::commits, limit());
  EXPECT_EQ(seen[1].pending, 0u);
  EXPECT_EQ(seen[1].changed, 0u);
}

}  // namespace
}  // namespace agentvm::sync
