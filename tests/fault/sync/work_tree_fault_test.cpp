// The steps of a sync that change more than our references, killed or out of space at the Nth of our calls that changes
// a file: branch and work tree that follow, commits that go to the guest, snapshots, a snapshot that is applied, build
// products. The git that moves a work tree is spared, because it is the user's own: whoever kills us does not kill it,
// and what it leaves when it is killed itself, it leaves to every user of git (GitKilledInTheWorkTree).
#include <fstream>

#include <fmt/format.h>

#include "tests/fault/sync/fault_fixture.hpp"

namespace agentvm::sync {
namespace {

using namespace test;

constexpr int points = 4;

class WorkTreeFault : public FaultFixture {
 protected:
  WorkTreeFault() {
    host = Repo::init(dir / "host");
    host.write("a.txt", "one\n");
    host.write("gone.txt", "one\n");
    host.write(".gitignore", "/dist/\n");
    host.git({"add", "--all"});
    host.git({"commit", "--quiet", "--message=first"});
    guest = Repo::clone(host, dir / "guest");
  }

  /// What is committed, uncommitted and named: all that a user has.
  static std::string state(const Repo& repo) {
    return repo.refs() + "\n" + repo.git({"symbolic-ref", "HEAD"}) + "\n" + repo.status() + "\n" +
           repo.git({"diff", "HEAD"});
  }
  /// Both kinds of fault, of a step that leads from one state of the host to another and succeeds when it is done
  /// again.
  void sweep_both(const std::string& name, const std::function<void()>& check_end) {
    keep_templates();
    const auto before = visible(host);
    ASSERT_EQ(step(name).code, 0);
    const auto after = visible(host);
    for (const auto fault : {Fault::kill, Fault::no_space})
      sweep(name, fault, Among::all_but_git, points, [&](const Run&) {
        const auto now = visible(host);
        EXPECT_TRUE(now == before || now == after) << now << "\nis neither\n" << before << "\nnor\n" << after;
        host.fsck();
        const auto again = step(name);
        EXPECT_EQ(again.code, 0) << again.said;
        EXPECT_EQ(visible(host), after);
        host.fsck();
        guest.fsck();
        check_end();
        expect_nothing_left();
      });
  }
  /// What the user works with; references of ours come first, and are swept elsewhere.
  static std::string visible(const Repo& repo) {
    return repo.git({"for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"}) + "\n" +
           repo.git({"symbolic-ref", "HEAD"}) + "\n" + repo.status() + "\n" + repo.git({"diff", "HEAD"});
  }
  void work_in_the_guest() {
    guest.write("a.txt", std::string(50'000, 'x'));
    guest.write("sub/new.txt", "new\n");
    guest.git({"rm", "--quiet", "gone.txt"});
  }
  void commit_in_the_guest() {
    work_in_the_guest();
    guest.git({"add", "--all"});
    guest.git({"commit", "--quiet", "--message=work"});
    guest.git({"tag", "v1"});
  }
};

TEST_F(WorkTreeFault, TheFastForward) {
  commit_in_the_guest();
  sweep_both("sync", [&] {
    EXPECT_EQ(host.tip("main"), guest.tip("main"));
    EXPECT_EQ(host.tip("refs/agentvm/box/tags/v1"), guest.tip());
    EXPECT_EQ(host.status(), "");
  });
}

TEST_F(WorkTreeFault, TheBranchThatIsFollowed) {
  guest.git({"switch", "--quiet", "-c", "feature"});
  commit_in_the_guest();
  sweep_both("sync", [&] {
    EXPECT_EQ(host.git({"symbolic-ref", "--short", "HEAD"}), "feature");
    EXPECT_EQ(host.tip(), guest.tip());
  });
}

TEST_F(WorkTreeFault, TheMergeThatGoesBackToTheGuest) {
  commit_in_the_guest();
  host.commit("h.txt", "host\n");
  EXPECT_EQ(step("sync").code, 6);
  host.git({"merge", "--quiet", "--no-edit", "refs/agentvm/box/main"});
  const auto old_tip = guest.tip();
  sweep_both("sync", [&] {
    EXPECT_EQ(guest.tip(), host.tip());
    EXPECT_EQ(guest.status(), "");
    EXPECT_EQ(guest.read("h.txt"), "host\n");
    EXPECT_EQ(host.tip("refs/agentvm/box/main"), host.tip());
    EXPECT_NE(guest.tip(), old_tip);
  });
}

TEST_F(WorkTreeFault, TheSnapshot) {
  work_in_the_guest();
  guest.write("untracked.txt", "precious\n");
  const auto there = state(guest);
  sweep_both("snapshot", [&] {
    EXPECT_EQ(state(guest), there) << "the guest's own is not touched";
    EXPECT_FALSE(fs::exists(guest.path().string() + "-store"));
    const auto ref = host.git({"for-each-ref", "--format=%(refname)", "refs/agentvm"});
    EXPECT_EQ(ref.find('\n'), std::string::npos) << "the same work is kept once: " << ref;
    EXPECT_EQ(host.git({"show", ref + ":untracked.txt"}), "precious");
    EXPECT_EQ(host.git({"show", ref + ":a.txt"}), std::string(50'000, 'x'));
  });
}

TEST_F(WorkTreeFault, TheSnapshotThatIsApplied) {
  work_in_the_guest();
  EXPECT_EQ(step("snapshot").code, 0);
  host.write("mine.txt", "staged\n");
  host.git({"add", "mine.txt"});
  const auto staged = host.git({"diff", "--cached"});
  sweep_both("apply", [&] {
    EXPECT_EQ(host.read("a.txt"), std::string(50'000, 'x'));
    EXPECT_EQ(host.read("sub/new.txt"), "new\n");
    EXPECT_FALSE(fs::exists(host.path() / "gone.txt"));
    EXPECT_EQ(host.git({"diff", "--cached"}), staged);
  });
}

TEST_F(WorkTreeFault, BuildProducts) {
  const auto fill = [](const Repo& repo, const std::string& text) {
    for (int i = 0; i < 4; ++i) repo.write(fmt::format("dist/{}/out", i), text + std::string(70'000, 'b'));
  };
  fill(host, "old");
  fill(guest, "other");
  guest.write("dist/new", "new");
  keep_templates();
  EXPECT_GT(step("artifacts").confined, 0);
  for (const auto fault : {Fault::kill, Fault::no_space})
    sweep("artifacts", fault, Among::all_but_git, points, [&](const Run&) {
      for (int i = 0; i < 4; ++i) {  // each file is one of the two, whole
        const auto name = fmt::format("dist/{}/out", i);
        const auto text = host.read(name);
        EXPECT_TRUE(text == "old" + std::string(70'000, 'b') || text == guest.read(name)) << name << " " << text.size();
      }
      EXPECT_EQ(step("artifacts").code, 0);
      std::set<std::string> names;
      for (const auto& entry : fs::recursive_directory_iterator(host.path() / "dist"))
        if (entry.is_regular_file()) names.insert(fs::relative(entry.path(), host.path()).string());
      EXPECT_EQ(names, (std::set<std::string>{"dist/0/out", "dist/1/out", "dist/2/out", "dist/3/out", "dist/new"}));
      for (const auto& name : names) EXPECT_EQ(host.read(name), guest.read(name));
      EXPECT_EQ(host.status(), "");
      expect_nothing_left();
    });
}

/// The git that moves the work tree is killed as well: no commit and no reference is lost, and what the next sync says
/// names what git left, one lock after the other, with the remedy that works; what it checked out half is the user's to
/// throw away, as git cannot say whose it is.
TEST_F(WorkTreeFault, GitKilledInTheWorkTree) {
  commit_in_the_guest();
  keep_templates();
  const auto before = host.tip(), after = guest.tip();
  int by_hand = 0, locked = 0;
  sweep("sync", Fault::kill, Among::all, 2 * points, [&](const Run&) {
    EXPECT_TRUE(host.tip() == before || host.tip() == after);
    host.fsck();
    auto again = step("sync");
    for (const char* lock : {"index.lock", "HEAD.lock", "ORIG_HEAD.lock", "refs/heads/main.lock"}) {
      const auto path = host.path() / ".git" / lock;
      if (again.code == 0 || !fs::exists(path)) continue;
      EXPECT_NE(again.said.find(path.string() + " is in the way, and no git is at work there"), std::string::npos)
          << again.said;
      EXPECT_NE(again.said.find("rm " + path.string() + " && agentvm sync box"), std::string::npos) << again.said;
      fs::remove(path);
      ++locked;
      again = step("sync");
    }
    if (again.code != 0) {
      ++by_hand;
      EXPECT_EQ(again.code, 6) << again.said;
      EXPECT_EQ(again.said.find(".lock"), std::string::npos) << again.said;
      host.git({"reset", "--quiet", "--hard"});
      host.git({"clean", "--quiet", "-d", "--force"});
      EXPECT_EQ(step("sync").code, 0);
    }
    EXPECT_EQ(host.tip(), after);
    EXPECT_EQ(host.status(), "");
    host.fsck();
  });
  EXPECT_GT(locked, 0);
  RecordProperty("locked", locked);
  RecordProperty("by_hand", by_hand);
}

}  // namespace
}  // namespace agentvm::sync
