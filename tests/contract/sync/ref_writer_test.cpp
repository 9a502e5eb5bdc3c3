// Our writer of references beside the git program, in one repository.
#include "sync/ref_writer.hpp"

#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/ref_locks.hpp"
#include "tests/contract/sync/git_fixture.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using test::Repo;
using testing::HasSubstr;

constexpr const char* topic = "refs/agentvm/box/topic";

class RefWriterTest : public testing::Test {
 protected:
  RefWriterTest() : repo(Repo::init(dir / "repo")), git(repo.path()) {
    one = repo.commit("a", "1\n");
    two = repo.commit("a", "2\n");
    repo.git({"tag", "-a", "-m", "v1", "v1"});
    host = open_host_repository(repo.path(), soon());
  }
  static Deadline soon() { return Deadline::after(std::chrono::seconds(60)); }
  void apply(std::vector<RefEdit> edits) { RefWriter(host, git, soon()).apply(std::move(edits)); }
  std::string refusal(std::vector<RefEdit> edits) {
    const auto before = repo.refs();
    try {
      apply(std::move(edits));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::operation_failed);
      EXPECT_EQ(repo.refs(), before);
      return error.message();
    }
    return "none";
  }
  bool has(const std::string& ref) { return repo.git_ok({"rev-parse", "-q", "--verify", ref}); }
  fs::path inside(const std::string& name) { return repo.path() / ".git" / name; }
  void expect_no_lock() {
    for (const auto& entry : fs::recursive_directory_iterator(repo.path() / ".git"))
      EXPECT_NE(entry.path().extension(), ".lock") << entry.path();
    EXPECT_FALSE(fs::exists(inside("agentvm/locks")));
  }
  /// What a kill leaves: locks taken, nobody there. `wanted` is written down, `taken` are linked.
  void die_holding(const std::vector<std::string>& wanted, const std::vector<std::string>& taken) {
    fs::create_directories(inside("agentvm/locks"));
    std::string list;
    for (const auto& name : wanted) list += name + ".lock" + '\0';
    write_file_atomic(inside("agentvm/locks/list"), list);
    for (const auto& name : taken) {
      fs::create_directories(inside(name).parent_path());
      fs::create_hard_link(inside("agentvm/locks/list"), inside(name + ".lock"));
    }
  }

  test::TempDir dir;
  Repo repo;
  HostGit git;
  HostRepository host;
  std::string one, two;
};

TEST_F(RefWriterTest, MakesMovesAndRemovesWhatGitThenSees) {
  apply({{topic, one, ""}, {"refs/agentvm/box/a/b", two, ""}});
  EXPECT_EQ(repo.tip(topic), one);
  EXPECT_EQ(repo.tip("refs/agentvm/box/a/b"), two);
  apply({{topic, two, one}, {"refs/agentvm/box/a/b", "", two}});
  EXPECT_EQ(repo.tip(topic), two);
  EXPECT_FALSE(has("refs/agentvm/box/a/b"));
  EXPECT_FALSE(fs::exists(inside("refs/agentvm/box/a")));
  expect_no_lock();
  repo.fsck();
}

TEST_F(RefWriterTest, RemovesFromPackedRefsAndKeepsTheOthers) {
  apply({{topic, one, ""}, {"refs/agentvm/box/main", two, ""}});
  repo.git({"pack-refs", "--all", "--prune"});
  ASSERT_FALSE(fs::exists(inside(topic)));
  fs::create_directories(inside("refs/agentvm/box/topic/empty"));  // as git's own packing leaves them
  apply({{topic, "", one}});
  apply({{"refs/agentvm/box/topic/one", two, ""}});
  EXPECT_FALSE(has(topic));
  EXPECT_EQ(repo.tip("refs/agentvm/box/topic/one"), two);
  EXPECT_EQ(repo.tip("refs/agentvm/box/main"), two);
  EXPECT_EQ(repo.tip("v1^{commit}"), two);  // with the line that says what the tag points to
  EXPECT_EQ(fs::status(inside("packed-refs")).permissions(),
            fs::status(inside("refs")).permissions() & fs::perms(0666));
  repo.fsck();
}

TEST_F(RefWriterTest, ComparesOldValuesAndNames) {
  apply({{topic, one, ""}});
  EXPECT_THAT(refusal({{"refs/agentvm/box/new", two, ""}, {topic, two, two}}), HasSubstr("changed by somebody else"));
  EXPECT_THAT(refusal({{topic, two, ""}}), HasSubstr("changed by somebody else"));
  EXPECT_THAT(refusal({{"refs/agentvm/box/gone", "", one}}), HasSubstr("changed by somebody else"));
  EXPECT_NE(refusal({{"refs/agentvm/box/topic/below", two, ""}}), "none");
  repo.git({"pack-refs", "--all", "--prune"});
  EXPECT_THAT(refusal({{"refs/agentvm/box/topic/below", two, ""}}), HasSubstr("changed by somebody else"));
  expect_no_lock();
}

TEST_F(RefWriterTest, WritesNothingOutsideOurOwnNames) {
  for (const char* name :
       {"refs/heads/main", "refs/agentvm/../heads/main", "HEAD", "refs/agentvm/box/x.lock", "config"})
    EXPECT_THAT(refusal({{name, one, two}}), HasSubstr("not a reference to write")) << name;
}

TEST_F(RefWriterTest, AKilledWritersLocksGoAndDraftsToo) {
  repo.git({"update-ref", topic, one});
  die_holding({topic, "refs/agentvm/box/deep/x", "packed-refs"}, {topic, "refs/agentvm/box/deep/x", "packed-refs"});
  write_file_atomic(inside("agentvm/locks/draft-1"), "half");
  EXPECT_FALSE(repo.git_ok({"update-ref", topic, two}));  // so git sees our locks as locks
  EXPECT_FALSE(repo.git_ok({"pack-refs", "--all"}));
  recover_references(host, soon());
  expect_no_lock();
  EXPECT_TRUE(repo.git_ok({"pack-refs", "--all"}));
  apply({{topic, two, one}});
}

TEST_F(RefWriterTest, AKillBeforeTheListWasWholeHarmsNothing) {
  fs::create_directories(inside("agentvm/locks"));
  recover_references(host, soon());
  EXPECT_FALSE(fs::exists(inside("agentvm/locks")));
  die_holding({}, {});
  recover_references(host, soon());
  expect_no_lock();
}

/// Written down by a killed writer, but made by somebody else since: not ours to remove.
TEST_F(RefWriterTest, NeverTakesALockOfTheUsersGit) {
  die_holding({topic, "packed-refs"}, {});
  fs::create_directories(inside(topic).parent_path());
  write_file_atomic(inside(std::string(topic) + ".lock"), "");
  write_file_atomic(inside("packed-refs.lock"), "");
  recover_references(host, soon());
  EXPECT_TRUE(fs::exists(inside(std::string(topic) + ".lock")));
  EXPECT_TRUE(fs::exists(inside("packed-refs.lock")));
  EXPECT_THAT(refusal({{topic, one, ""}}), HasSubstr(".lock exists"));
  EXPECT_TRUE(fs::exists(inside(std::string(topic) + ".lock")));
  fs::remove(inside(std::string(topic) + ".lock"));
  fs::remove(inside("packed-refs.lock"));
  apply({{topic, one, ""}});
  expect_no_lock();
}

TEST_F(RefWriterTest, ALivingWritersLocksStay) {
  const auto guard = lock_writers(host.common_dir, soon());
  RefLocks locks(host.common_dir, {topic});
  ASSERT_TRUE(locks.take(soon()));
  EXPECT_THROW(recover_references(host, Deadline::after(milliseconds(60))), Error);
  EXPECT_TRUE(fs::exists(inside(std::string(topic) + ".lock")));
}

TEST_F(RefWriterTest, OtherFormatsAreLeftToGit) {
  host.ref_format = "reftable";
  apply({{topic, one, ""}});
  apply({{topic, two, one}, {"refs/agentvm/box/x", one, ""}});
  apply({{"refs/agentvm/box/x", "", one}});
  EXPECT_EQ(repo.tip(topic), two);
  EXPECT_FALSE(has("refs/agentvm/box/x"));
  EXPECT_NE(refusal({{topic, one, one}}), "none");
  EXPECT_FALSE(fs::exists(inside("agentvm")));
}

/// The user's own gc moves references into packed-refs and removes the files meanwhile: no value gets lost.
TEST_F(RefWriterTest, BesideGitsOwnPackingNoValueIsLost) {
  repo.git({"config", "core.packedRefsTimeout", "-1"});
  repo.git({"config", "core.filesRefLockTimeout", "-1"});
  std::atomic<bool> done = false;
  std::thread packer([&] {
    while (!done) repo.git_ok({"pack-refs", "--all", "--prune"});
  });
  std::string now, flip, unlike;
  for (int round = 0; round < 60; ++round) {
    const auto& next = round % 2 ? two : one;
    // Another commit each time: git's own pruning cannot tell a name that went and came back with the value it packed.
    const auto come =
        round % 2 ? "" : repo.git({"commit-tree", repo.tip("main^{tree}"), "-m", "round " + std::to_string(round)});
    EXPECT_NO_THROW(apply({{topic, next, now}, {"refs/agentvm/box/flip", come, flip}}));
    now = next;
    flip = come;
    if (repo.tip(topic) != now || (has("refs/agentvm/box/flip") ? repo.tip("refs/agentvm/box/flip") : "") != flip)
      unlike += std::to_string(round) + " ";
  }
  done = true;
  packer.join();
  EXPECT_EQ(unlike, "");
  expect_no_lock();
  repo.fsck();
}

TEST(PackedRefs, LinesGoWithWhatBelongsToThem) {
  const std::string text = "# pack-refs with: peeled fully-peeled sorted \n1 refs/a\n2 refs/b\n^3\n4 refs/b/c\n";
  EXPECT_EQ(packed_without(text, {"refs/b"}), "# pack-refs with: peeled fully-peeled sorted \n1 refs/a\n4 refs/b/c\n");
  EXPECT_EQ(packed_without(text, {"refs/a", "refs/b/c"}),
            "# pack-refs with: peeled fully-peeled sorted \n2 refs/b\n^3\n");
  EXPECT_EQ(packed_without(text, {"refs/c", "with:"}), std::nullopt);
  EXPECT_EQ(packed_without("", {"refs/a"}), std::nullopt);
  EXPECT_EQ(packed_without("1 refs/a", {"refs/a"}), "");
  EXPECT_EQ(packed_without("\n\n1", {"refs/a"}), std::nullopt);
}

}  // namespace
}  // namespace agentvm::sync
