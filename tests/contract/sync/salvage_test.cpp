// Work in a folder whose guest is gone comes home, and nothing that the guest wrote there runs or leads elsewhere.
#include "sync/salvage.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "sync/sync.hpp"
#include "sync/wip.hpp"
#include "tests/contract/sync/git_fixture.hpp"
#include "tests/support/stopped_clock.hpp"

namespace agentvm::sync {
namespace {

using test::Repo;
using test::StoppedClock;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* rescue = "rescue/now";

class SalvageTest : public testing::Test {
 protected:
  SalvageTest() : host(Repo::init(dir / "host")), guest(dir / "workspace") {
    host.commit("a.txt", "one\n", "first");
    guest = Repo::clone(host, dir / "workspace");
  }

  SalvageRequest salvage_request() {
    return {.workspace = guest.path(), .scratch = dir / "salvage-scratch", .branch = rescue};
  }
  /// Salvages and fetches; whether something was uncommitted.
  bool bring_home() {
    bool uncommitted = false;
    {
      const Salvage salvage(salvage_request(), no_progress(), limit());
      uncommitted = !salvage.uncommitted().empty();
      warnings = salvage.warnings();
      SyncRequest request{.repository = host.path(),
                          .sandbox = SandboxName::parse("box"),
                          .libexec = AGENTVM_TEST_LIBEXEC,
                          .scratch = dir / "scratch"};
      request.move = Move::references_only;
      const auto streams = salvage.streams();
      outcome = sync_now(request, *streams, no_progress(), limit());
    }
    EXPECT_TRUE(fs::is_empty(dir / "salvage-scratch")) << "a copy was left behind";
    host.fsck();
    return uncommitted;
  }
  static Deadline limit() { return Deadline::after(std::chrono::seconds(60)); }
  std::string ref(const std::string& branch) { return "refs/agentvm/box/" + branch; }
  std::string saved(const std::string& path) { return host.git({"show", ref(rescue) + ":" + path}); }
  std::string saved_names() { return host.git({"ls-tree", "-r", "--name-only", ref(rescue)}); }

  test::TempDir dir;
  Repo host, guest;
  SyncOutcome outcome;
  std::vector<std::string> warnings;
};

TEST_F(SalvageTest, CommitsAndUncommittedWorkComeHome) {
  const auto tip = guest.commit("b.txt", "two\n");
  guest.git({"branch", "side/line"});
  guest.git({"pack-refs", "--all"});
  const auto later = guest.commit("c.txt", "three\n");
  guest.write(".gitignore", "*.log\nout/\n");
  guest.write("noise.log", "noise\n");
  guest.write("out/big", "built\n");
  guest.write("staged", "staged\n");
  guest.git({"add", "staged"});
  guest.write("a.txt", "changed\n");
  guest.write("run", "#!/bin/sh\n", true);
  fs::create_symlink("a.txt", guest.path() / "link");
  fs::remove(guest.path() / "b.txt");
  const auto index = read_file(guest.path() / ".git/index");
  EXPECT_TRUE(bring_home());
  EXPECT_THAT(warnings, IsEmpty());
  EXPECT_EQ(host.tip(ref("main")), later);
  EXPECT_EQ(host.tip(ref("side/line")), tip);
  EXPECT_EQ(host.tip(ref(rescue) + "^"), later);
  EXPECT_EQ(saved_names(), ".gitignore\na.txt\nc.txt\nlink\nrun\nstaged");
  EXPECT_EQ(saved("a.txt"), "changed");
  EXPECT_EQ(saved("link"), "a.txt");
  EXPECT_THAT(host.git({"ls-tree", ref(rescue), "run"}), HasSubstr("100755"));
  EXPECT_EQ(host.status(), "");
  EXPECT_EQ(read_file(guest.path() / ".git/index"), index) << "the guest's own index changed";
}

TEST_F(SalvageTest, WhereAllIsCommittedNoBranchIsMade) {
  const auto tip = guest.commit("b.txt", "two\n");
  EXPECT_FALSE(bring_home());
  EXPECT_EQ(host.tip(ref("main")), tip);
  EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", ref(rescue)}));
}

TEST_F(SalvageTest, TrackedFilesThatAreIgnoredCountToo) {
  guest.write("kept.log", "one\n");
  guest.git({"add", "-f", "kept.log"});
  guest.commit(".gitignore", "*.log\n");
  guest.write("kept.log", "two\n");
  EXPECT_TRUE(bring_home());
  EXPECT_EQ(saved("kept.log"), "two");
}

TEST_F(SalvageTest, PacksAndDetachedHeads) {
  for (int i = 0; i < 20; ++i) guest.commit("f" + std::to_string(i), std::string(2000, static_cast<char>('a' + i)));
  guest.git({"checkout", "-q", "--detach"});
  const auto loose_end = guest.commit("detached", "x\n");
  guest.git({"gc", "-q"});
  guest.write("more", "y\n");
  EXPECT_TRUE(bring_home());
  EXPECT_EQ(host.tip(ref(rescue) + "^"), loose_end);
}

TEST_F(SalvageTest, EachWorkTreeHasItsOwn) {
  guest.write(".git/info/exclude", ".worktrees/\n");
  guest.git({"worktree", "add", "-q", "-b", "feature/x", ".worktrees/feature-x-12345678"});
  const Repo linked(guest.path() / ".worktrees/feature-x-12345678");
  const auto tip = linked.commit("b.txt", "two\n");
  linked.write("b.txt", "changed\n");
  linked.write("new", "new\n");
  guest.write("c.txt", "three\n");
  guest.write(".worktrees/no-work-tree/file", "x\n");
  EXPECT_TRUE(bring_home());
  EXPECT_EQ(saved_names(), "a.txt\nc.txt");
  const auto other = ref("rescue/now-feature-x-12345678");
  EXPECT_EQ(host.tip(ref("feature/x")), tip);
  EXPECT_EQ(host.tip(other + "^"), tip);
  EXPECT_EQ(host.git({"show", other + ":b.txt"}), "changed");
  EXPECT_EQ(host.git({"ls-tree", "-r", "--name-only", other}), "a.txt\nb.txt\nnew");
}

TEST_F(SalvageTest, NoProgramOfTheGuestRuns) {
  const auto canary = (dir / "canary").string(), command = "touch " + canary;
  for (const char* key : {"core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "filter.evil.clean",
                          "filter.evil.process", "filter.evil.smudge", "diff.evil.textconv", "merge.evil.driver",
                          "uploadpack.packObjectsHook", "credential.helper", "gpg.program"})
    guest.git({"config", key, command});
  guest.git({"config", "core.hooksPath", (guest.path() / "hooks").string()});
  for (const char* folder : {"hooks/", ".git/hooks/"})
    for (const char* hook : {"post-index-change", "reference-transaction", "pre-commit", "post-commit"})
      guest.write(folder + std::string(hook), "#!/bin/sh\n" + command + "\n", true);
  guest.write(".gitattributes", "* filter=evil diff=evil merge=evil working-tree-encoding=UTF-16\n");
  guest.write(".git/info/attributes", "* filter=evil\n");
  guest.write("payload", "not UTF-16\n");
  const auto nested = Repo::init(guest.path() / "nested");
  nested.commit("inside", "inside\n");
  nested.git({"config", "core.fsmonitor", command});
  nested.git({"config", "filter.evil.clean", command});
  EXPECT_TRUE(bring_home());
  EXPECT_FALSE(fs::exists(canary));
  EXPECT_EQ(saved("payload"), "not UTF-16");
  EXPECT_EQ(saved("nested/inside"), "inside");
}

TEST_F(SalvageTest, NothingLeadsOutOfTheFolder) {
  const auto secret = dir / "secret";
  write_file_atomic(secret, "SECRET\n");
  const auto elsewhere = Repo::init(dir / "elsewhere");
  const auto foreign = elsewhere.commit("private", "SECRET\n");
  guest.commit("b.txt", "two\n");
  // Objects by alternates, by a linked folder and by a linked pack; a reference by link; a file by link; a folder by
  // link.
  guest.write(".git/objects/info/alternates", (elsewhere.path() / ".git/objects").string() + "\n");
  elsewhere.git({"repack", "-adq"});
  for (const auto& pack : fs::directory_iterator(elsewhere.path() / ".git/objects/pack"))
    fs::create_symlink(pack.path(), guest.path() / ".git/objects/pack" / pack.path().filename());
  guest.write(".git/refs/heads/stolen", foreign + "\n");
  fs::create_symlink(secret, guest.path() / ".git/refs/heads/linked");
  fs::create_symlink(secret, guest.path() / "leak");
  fs::create_directory_symlink(elsewhere.path(), guest.path() / "leaking");
  EXPECT_TRUE(bring_home());
  EXPECT_FALSE(host.git_ok({"cat-file", "-e", foreign}));
  EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", ref("stolen")}));
  EXPECT_EQ(saved("leak"), secret.string()) << "a link is saved as the text that it is";
  EXPECT_EQ(saved_names(), "a.txt\nb.txt\nleak\nleaking");
}

TEST_F(SalvageTest, ALinkInThePlaceOfTheRepositoryIsNotFollowed) {
  const auto elsewhere = Repo::init(dir / "elsewhere");
  const auto foreign = elsewhere.commit("private", "SECRET\n");
  fs::remove_all(guest.path() / ".git");
  fs::create_directory_symlink(elsewhere.path() / ".git", guest.path() / ".git");
  EXPECT_TRUE(bring_home());
  EXPECT_FALSE(host.git_ok({"cat-file", "-e", foreign}));
  EXPECT_EQ(saved_names(), "a.txt") << "the files are all there is, and they come";
}

TEST_F(SalvageTest, AWorkspaceThatIsALinkIsRefused) {
  fs::create_directory_symlink(guest.path(), dir / "linked");
  auto request = salvage_request();
  request.workspace = dir / "linked";
  EXPECT_THROW(Salvage(request, no_progress(), limit()), Error);
}

TEST_F(SalvageTest, WhatTheHostWouldRefuseDoesNotTakeTheRestWithIt) {
  guest.write("good", "good\n");
  guest.write(".GIT", "x\n");
  guest.write("git~1", "x\n");
  guest.write(".git ", "x\n");
  guest.write("GITMOD~1", "x\n");
  fs::create_directories(guest.path() / "sub");
  fs::create_symlink("../a.txt", guest.path() / "sub/.gitmodules");
  guest.write("deep/.git/config", "[core]\n\tfsmonitor = touch /nowhere\n");
  guest.write(".gitmodules", "[submodule \"x\"]\n\turl = --upload-pack=touch\n\tpath = x\n");
  guest.write("attributes/.gitattributes", std::string(4000, 'x') + "\n");
  ASSERT_EQ(::mkfifo((guest.path() / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(bring_home());
  EXPECT_EQ(saved_names(), "a.txt\ngood");
  EXPECT_THAT(warnings, Contains(HasSubstr("could not be read or taken")));
  EXPECT_THAT(warnings, Contains(HasSubstr("left out")));
}

TEST_F(SalvageTest, ADamagedRepositoryStillGivesItsFiles) {
  guest.commit("b.txt", "two\n");
  const auto tip = guest.tip();
  guest.write("c.txt", "three\n");
  fs::remove(guest.path() / ".git/objects" / tip.substr(0, 2) / tip.substr(2));
  EXPECT_TRUE(bring_home());
  EXPECT_EQ(saved_names(), "a.txt\nb.txt\nc.txt");
  EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", ref(rescue) + "^"}));
}

TEST_F(SalvageTest, ObjectsThatTheCrashLeftEmptyCostTheirBranchAlone) {
  guest.git({"checkout", "-q", "-b", "late"});
  const auto tip = guest.commit("b.txt", "two\n");
  const auto blob = guest.git({"rev-parse", "HEAD:b.txt"});
  fs::permissions(guest.path() / ".git/objects" / blob.substr(0, 2) / blob.substr(2), fs::perms(0600));
  fs::resize_file(guest.path() / ".git/objects" / blob.substr(0, 2) / blob.substr(2), 0);
  guest.write("c.txt", "three\n");
  EXPECT_TRUE(bring_home());
  EXPECT_THAT(warnings, Contains(HasSubstr("1 objects could not be read")));
  EXPECT_THAT(warnings, Contains(HasSubstr("1 branches are damaged")));
  EXPECT_EQ(saved_names(), "a.txt\nb.txt\nc.txt");
  EXPECT_EQ(host.tip(ref("main")), host.tip());
  EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", ref("late")})) << tip;
}

TEST_F(SalvageTest, ADamagedPackIsToldAndTheRestComes) {
  guest.git({"gc", "-q"});
  for (const auto& entry : fs::directory_iterator(guest.path() / ".git/objects/pack"))
    if (entry.path().extension() == ".pack") {
      fs::permissions(entry.path(), fs::perms(0600));
      fs::resize_file(entry.path(), fs::file_size(entry.path()) / 2);
    }
  guest.write("c.txt", "three\n");
  EXPECT_TRUE(bring_home());
  EXPECT_THAT(warnings, Contains(HasSubstr("is damaged")));
  EXPECT_EQ(saved_names(), "a.txt\nc.txt");
}

TEST_F(SalvageTest, LimitsEndItAndNothingIsLeft) {
  guest.write("big", std::string(100'000, 'x'));
  auto request = salvage_request();
  request.limits.bytes = 50'000;
  EXPECT_THROW(Salvage(request, no_progress(), limit()), Error);
  EXPECT_TRUE(fs::is_empty(dir / "salvage-scratch"));
  request.limits = {};
  request.limits.entries = 1;
  EXPECT_THROW(Salvage(request, no_progress(), limit()), Error);
  EXPECT_THROW(Salvage(salvage_request(), no_progress(), Deadline::after(milliseconds(0))), Error);
  EXPECT_TRUE(fs::is_empty(dir / "salvage-scratch"));
}

TEST_F(SalvageTest, WhatItFailsWithIsCleanText) {
  guest.write("odd\nname\033]0;title\007\302\233\342\200\256", std::string(100'000, 'x'));
  auto request = salvage_request();
  request.limits.bytes = 50'000;
  try {
    const Salvage salvage(request, no_progress(), limit());
    FAIL() << "it is beyond the limit";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("odd"));
    for (const char* bad : {"\n", "\033", "\007", "\302\233", "\342\200\256"})
      EXPECT_THAT(error.what(), Not(HasSubstr(bad)));
  }
}

TEST_F(SalvageTest, TheCommitIsListedAmongTheSnapshotsAndTheSameWorkOnce) {
  guest.write("c.txt", "three\n");
  StoppedClock clock;
  std::vector<std::string> names;
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(bring_home());
    names.push_back(keep_as_wip(host.path(), SandboxName::parse("box"), ref(rescue), "", clock, limit()));
    EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", ref(rescue)}));
  }
  EXPECT_EQ(names[0], names[1]);
  EXPECT_THAT(names[0], HasSubstr("refs/agentvm/box/wip/"));
  guest.write("c.txt", "four\n");
  EXPECT_TRUE(bring_home());
  const auto other = keep_as_wip(host.path(), SandboxName::parse("box"), ref(rescue), "", clock, limit());
  EXPECT_NE(other, names[0]) << "the clock stood still, and both must stay";
  EXPECT_EQ(list_wip(HostGit(host.path()), "box", limit()).size(), 2u);
}

TEST_F(SalvageTest, OnlyTheFetchIsServed) {
  const Salvage salvage(salvage_request(), no_progress(), limit());
  const auto streams = salvage.streams();
  EXPECT_THROW(streams->exec({.argv = {"sh", "-c", "true"}}, limit()), Error);
  EXPECT_THROW(streams->dial("127.0.0.1", 22, limit()), Error);
}

}  // namespace
}  // namespace agentvm::sync
