// A sync that is killed (-9, with everything it started) or runs out of space at the Nth call that changes a file, for
// every N: the host's repository is as before or as after, `git fsck` is clean, the next sync succeeds and leaves
// nothing of the first. In the full tier every N; else every so manieth.
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "sync/host_git.hpp"
#include "tests/contract/sync/git_fixture.hpp"
#include "tests/fault/sync/shim.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using namespace test;

class SyncFault : public testing::Test {
 protected:
  SyncFault() : origin(Repo::init(dir / "origin")), guest(dir / "guest"), host(dir / "host") {
    origin.commit("a.txt", "one\n", "first");
    // What a sync may have to do at once: a new branch, one that moves, one rewritten, a name that must make room.
    guest = Repo::clone(origin, dir / "guest");
    for (const char* branch : {"moves", "rewritten", "topic"}) guest.git({"branch", branch});
    guest.git({"switch", "--quiet", "rewritten"});
    guest.commit("r.txt", "1\n");
    fresh_host(origin.path());
    EXPECT_EQ(sync().code, 0);
    guest.git({"commit", "--quiet", "--amend", "--message=again"});
    guest.git({"switch", "--quiet", "moves"});
    guest.commit("m.txt", "m\n");
    guest.git({"branch", "-m", "topic", "topic/one"});
    guest.git({"switch", "--quiet", "-c", "fresh"});
    guest.commit("f.txt", std::string(100'000, 'f'));
    fs::rename(host.path(), dir / "template");
    fresh_host(dir / "template");
    before = refs();
    EXPECT_EQ(sync().code, 0);
    after = refs();
    EXPECT_NE(before, after);
  }

  void fresh_host(const fs::path& from) {
    remove_tree(dir / "host");
    fs::copy(from, dir / "host", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
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

  struct Run {
    int code = 0, signal = 0, calls = 0;
    std::string said;
  };
  Run sync(int at = 0, bool kill = false) {
    const auto file = dir / "plan";
    UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    check_errno(::ftruncate(fd.get(), sizeof(FaultPlan)), "ftruncate");
    void* map = ::mmap(nullptr, sizeof(FaultPlan), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    auto* plan = new (map) FaultPlan{0, at, kill ? 1 : 0};
    ProcessSpec spec;
    spec.argv = {AGENTVM_TEST_DRIVER, host.path(), guest.path(), dir / "scratch", AGENTVM_TEST_LIBEXEC};
    spec.env = std::map<std::string, std::string>{{"PATH", std::getenv("PATH")},
                                                  {"HOME", "/nonexistent"},
                                                  {"LD_PRELOAD", AGENTVM_TEST_SHIM},
                                                  {"AGENTVM_FAULT_PLAN", file}};
    spec.die_with_parent = true;
    const auto result = run(spec, Deadline::after(std::chrono::seconds(120)));
    Run outcome{result.status.code, result.status.signal, plan->calls, result.err};
    ::munmap(map, sizeof(FaultPlan));
    return outcome;
  }

  void check(const std::string& what) {
    SCOPED_TRACE(what);
    // Each reference is as it was or as it will be; what was kept is extra.
    for (const auto& line : refs()) EXPECT_TRUE(before.contains(line) || after.contains(line)) << line;
    for (const auto& line : before) {
      const auto tip = line.substr(0, 40);
      EXPECT_TRUE(host.refs().find(tip) != std::string::npos) << "lost " << line;
    }
    EXPECT_TRUE(host.git_ok({"fsck", "--strict", "--full"}));
    const auto again = sync();
    EXPECT_EQ(again.code, 0) << again.said;
    EXPECT_EQ(refs(), after);
    EXPECT_EQ(host.status(), "");
    EXPECT_TRUE(host.git_ok({"fsck", "--strict", "--full"}));
    for (const auto& left : fs::directory_iterator(dir / "scratch")) EXPECT_EQ(left.path().filename(), "sync.lock");
    for (const auto& left : fs::directory_iterator(host.path() / ".git/agentvm"))
      EXPECT_EQ(left.path().filename(), "guard");
    for (const auto& left : fs::recursive_directory_iterator(host.path() / ".git")) {
      EXPECT_NE(left.path().extension(), ".lock") << left.path();
      EXPECT_NE(left.path().extension(), ".keep") << left.path();
      EXPECT_FALSE(left.path().filename().string().starts_with("tmp_")) << left.path();
    }
  }

  void sweep(bool kill) {
    fresh_host(dir / "template");
    const int calls = sync().calls;
    ASSERT_GT(calls, 30);
    const char* tier = std::getenv("AGENTVM_TEST_TIER");
    const int stride = tier && std::strcmp(tier, "full") == 0 ? 1 : std::max(1, calls / 24);
    int hits = 0;
    for (int at = 1; at <= calls; at += stride) {
      fresh_host(dir / "template");
      const auto failed = sync(at, kill);
      if (kill ? failed.signal == SIGKILL : failed.code == 3) ++hits;
      EXPECT_TRUE(kill ? failed.signal == SIGKILL : failed.signal == 0) << at << " " << failed.code << failed.said;
      check((kill ? "killed at " : "no space from ") + std::to_string(at) + ": " + failed.said);
      if (HasFailure()) return;
    }
    EXPECT_GT(hits, kill ? calls / stride / 2 : calls / stride / 3);
    RecordProperty("calls", calls);
  }

  TempDir dir;
  Repo origin, guest, host;
  std::set<std::string> before, after;
};

TEST_F(SyncFault, KilledAtEveryStep) {
  sweep(true);
}

TEST_F(SyncFault, NoSpaceFromEveryStepOn) {
  sweep(false);
}

/// The child writes through a mapping: a full disk reaches it as a signal.
TEST_F(SyncFault, NoSpaceForThePack) {
  fresh_host(dir / "template");
  const auto scratch = dir / "scratch";
  if (::mount("none", scratch.c_str(), "tmpfs", 0, "size=1m,mode=0700") < 0) GTEST_SKIP() << "mounting needs root";
  guest.git({"switch", "--quiet", "-c", "large"});
  std::string noise;
  while (noise.size() < (4u << 20)) noise += random_hex(32);
  guest.commit("large", noise);
  const auto failed = sync();
  EXPECT_EQ(failed.code, 3);
  EXPECT_NE(failed.said.find("o space left"), std::string::npos) << failed.said;
  EXPECT_EQ(refs(), before);
  EXPECT_TRUE(fs::directory_iterator(scratch) == fs::directory_iterator() ||
              fs::directory_iterator(scratch)->path().filename() == "sync.lock");
  EXPECT_EQ(::umount2(scratch.c_str(), MNT_DETACH), 0);
  EXPECT_EQ(sync().code, 0);
  host.fsck();
}

}  // namespace
}  // namespace agentvm::sync
