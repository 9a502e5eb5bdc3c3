// A sync that is killed (-9, with everything it started) or runs out of space at the Nth call that changes a file, for
// every N, in all of its processes: the host's repository is as before or as after, `git fsck` is clean, the next sync
// succeeds and leaves nothing of the first. In the full tier every N; else every so manieth.
#include <sys/mount.h>

#include "sync/host_git.hpp"
#include "tests/fault/sync/fault_fixture.hpp"

namespace agentvm::sync {
namespace {

constexpr int points = 6;

using namespace test;

class SyncFault : public FaultFixture {
 protected:
  SyncFault() {
    host = Repo::init(dir / "host");
    host.commit("a.txt", "one\n", "first");
    // What a sync may have to do at once: a new branch, one that moves, one rewritten, a name that must make room.
    guest = Repo::clone(host, dir / "guest");
    for (const char* branch : {"moves", "rewritten", "topic"}) guest.git({"branch", branch});
    guest.git({"switch", "--quiet", "rewritten"});
    guest.commit("r.txt", "1\n");
    EXPECT_EQ(step("references").code, 0);
    guest.git({"commit", "--quiet", "--amend", "--message=again"});
    guest.git({"switch", "--quiet", "moves"});
    guest.commit("m.txt", "m\n");
    guest.git({"branch", "-m", "topic", "topic/one"});
    guest.git({"switch", "--quiet", "-c", "fresh"});
    guest.commit("f.txt", std::string(100'000, 'f'));
    keep_templates();
    before = refs();
    EXPECT_GT(step("references").confined, 0) << "the shim is in our child, too";
    after = refs();
    EXPECT_NE(before, after);
    restore();
  }

  /// Without the times in the names of kept tips.
  std::set<std::string> refs() const {
    std::set<std::string> result;
    for (auto line : split_lines(host.refs())) {
      if (const auto old = line.find("/old/"); old != std::string::npos)
        line.erase(old + 5, line.find('/', old + 5) - old - 5);
      result.insert(line);
    }
    return result;
  }

  void check() {
    // Each reference is as it was or as it will be; what was kept is extra.
    for (const auto& line : refs()) EXPECT_TRUE(before.contains(line) || after.contains(line)) << line;
    for (const auto& line : before) {
      const auto tip = line.substr(0, 40);
      EXPECT_TRUE(host.refs().find(tip) != std::string::npos) << "lost " << line;
    }
    EXPECT_TRUE(host.git_ok({"fsck", "--strict", "--full"}));
    const auto again = step("references");
    EXPECT_EQ(again.code, 0) << again.said;
    EXPECT_EQ(refs(), after);
    EXPECT_EQ(host.status(), "");
    EXPECT_TRUE(host.git_ok({"fsck", "--strict", "--full"}));
    expect_nothing_left();
  }

  std::set<std::string> before, after;
};

TEST_F(SyncFault, KilledAtEveryStep) {
  sweep("references", Fault::kill, Among::all, points, [&](const Run&) { check(); });
}

TEST_F(SyncFault, NoSpaceFromEveryStepOn) {
  sweep("references", Fault::no_space, Among::all, points, [&](const Run&) { check(); });
}

/// The same where the objects come one by one: what ends half-way is not asked of git by a process that is gone.
TEST_F(SyncFault, KilledAtEveryStepOfLooseObjects) {
  const auto whole = step("loose");
  EXPECT_EQ(whole.code, 0) << whole.said;
  EXPECT_EQ(whole.said.find("git was asked"), std::string::npos) << whole.said;
  EXPECT_EQ(refs(), after);
  restore();
  sweep("loose", Fault::kill, Among::all, points, [&](const Run&) { check(); });
}

TEST_F(SyncFault, NoSpaceForLooseObjects) {
  sweep("loose", Fault::no_space, Among::all, points, [&](const Run&) { check(); });
}

/// The child writes through a mapping: a full disk reaches it as a signal.
TEST_F(SyncFault, NoSpaceForThePack) {
  const auto scratch = dir / "scratch";
  ensure_private_dir(scratch);
  if (::mount("none", scratch.c_str(), "tmpfs", 0, "size=1m,mode=0700") < 0) GTEST_SKIP() << "mounting needs root";
  guest.git({"switch", "--quiet", "-c", "large"});
  std::string noise;
  while (noise.size() < (4u << 20)) noise += random_hex(32);
  guest.commit("large", noise);
  const auto failed = step("references");
  EXPECT_EQ(failed.code, 3);
  EXPECT_NE(failed.said.find("o space left"), std::string::npos) << failed.said;
  EXPECT_EQ(refs(), before);
  EXPECT_TRUE(fs::directory_iterator(scratch) == fs::directory_iterator() ||
              fs::directory_iterator(scratch)->path().filename() == "sync.lock");
  EXPECT_EQ(::umount2(scratch.c_str(), MNT_DETACH), 0);
  EXPECT_EQ(step("references").code, 0);
  host.fsck();
}

}  // namespace
}  // namespace agentvm::sync
