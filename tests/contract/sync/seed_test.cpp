// seed_workspace on real repositories in every state a user's can be in. The oracle is git itself: the clone must show
// what the user saw.
#include <functional>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/seed/clone_config.hpp"
#include "sync/workspace.hpp"
#include "tests/contract/sync/git_fixture.hpp"
#include "tests/support/fake_streams.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using test::Repo;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

class SeedTest : public testing::Test {
 protected:
  SeedTest() : user(Repo::init(dir / "user")), clone(dir / "clone") {}

  SeedRequest request() { return {.repository = user.path(), .target = dir / "clone"}; }
  SeedReport seed() { return seed(request()); }
  SeedReport seed(const SeedRequest& wanted) {
    const auto before = fingerprint();
    auto report = seed_workspace(wanted, no_progress(), Deadline::after(std::chrono::seconds(60)));
    EXPECT_EQ(fingerprint(), before) << "the user's repository changed";
    return report;
  }
  /// Every file below .git with its size and time: nothing of the user's may change. (Git may refresh the time of an
  /// object that exists.)
  std::string fingerprint() {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(user.path() / ".git")) {
      if (!entry.is_regular_file()) continue;
      auto& value = files[entry.path().string()] = std::to_string(entry.file_size());
      if (entry.path().string().find("/objects/") == std::string::npos)
        value += " " + std::to_string(entry.last_write_time().time_since_epoch().count());
    }
    std::string text;
    for (const auto& [name, value] : files) text += name + " " + value + "\n";
    return text + user.refs();
  }
  /// The clone looks like the user's tree, staged and unstaged told apart.
  void expect_same_state() {
    EXPECT_EQ(clone.status(), user.status());
    EXPECT_EQ(clone.git({"diff"}), user.git({"diff"}));
    EXPECT_EQ(clone.git({"diff", "--cached"}), user.git({"diff", "--cached"}));
    EXPECT_EQ(clone.git({"ls-files", "--stage"}), user.git({"ls-files", "--stage"}));
    clone.fsck();
  }
  ErrorCode refusal(const SeedRequest& wanted, const std::string& words) {
    try {
      seed_workspace(wanted, no_progress(), Deadline::after(std::chrono::seconds(60)));
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(words));
      return error.code();
    }
    ADD_FAILURE() << "not refused: " << words;
    return ErrorCode::usage;
  }

  test::TempDir dir;
  Repo user, clone;
};

TEST_F(SeedTest, CleanTreeWithBranchesTagsAndRemotes) {
  user.commit("a.txt", "one\n");
  user.git({"tag", "-a", "v1", "-m", "release"});
  user.git({"tag", "light"});
  for (int i = 0; i < 50; ++i) user.git({"branch", "topic/" + std::to_string(i)});
  user.git({"remote", "add", "origin", "https://ann:s3cret@example.org/p.git"});
  user.git({"remote", "add", "fork", "git@example.org:me/p.git"});
  user.git({"update-ref", "refs/remotes/origin/main", "HEAD"});
  user.git({"symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"});
  user.git({"branch", "--set-upstream-to=origin/main"});
  const auto report = seed();
  EXPECT_EQ(report.branch, "main");
  EXPECT_EQ(report.head, user.tip());
  EXPECT_EQ(report.dirty.total(), 0u);
  EXPECT_THAT(report.warnings, IsEmpty());
  EXPECT_EQ(clone.refs(), user.refs());
  EXPECT_EQ(clone.git({"symbolic-ref", "refs/remotes/origin/HEAD"}), "refs/remotes/origin/main");
  EXPECT_EQ(clone.git({"config", "remote.origin.url"}), "https://example.org/p.git");
  EXPECT_EQ(clone.git({"config", "remote.fork.url"}), "git@example.org:me/p.git");
  EXPECT_EQ(clone.git({"rev-parse", "--abbrev-ref", "main@{upstream}"}), "origin/main");
  expect_same_state();
}

TEST_F(SeedTest, NothingIsShared) {
  user.commit("a.txt", "one\n");
  user.git({"repack", "-adq"});
  seed();
  EXPECT_FALSE(fs::exists(clone.path() / ".git/objects/info/alternates"));
  EXPECT_FALSE(fs::exists(clone.path() / ".git/agentvm-seed"));
  for (const auto& entry : fs::recursive_directory_iterator(clone.path()))
    if (entry.is_regular_file()) {
      EXPECT_EQ(fs::hard_link_count(entry.path()), 1u) << entry.path();
    }
}

TEST_F(SeedTest, EveryKindOfUncommittedChange) {
  for (const char* name :
       {"staged", "both", "unstaged", "deleted", "removed", "renamed-from", "mode", "link-target", "dir/becomes-link"})
    user.write(name, std::string(name) + "\n");
  fs::create_symlink("link-target", user.path() / "link");
  user.write("was-file", "x\n");
  user.write("was-dir/inside", "x\n");
  user.write(".gitignore", "*.log\n");
  user.git({"add", "."});
  user.git({"commit", "-q", "-m", "base"});
  user.write("staged", "staged new\n");
  user.write("both", "index\n");
  user.write("added", "new\n");
  user.git({"add", "staged", "both", "added"});
  user.write("both", "tree\n");
  user.write("unstaged", "tree\n");
  fs::remove(user.path() / "deleted");
  user.git({"rm", "-q", "removed"});
  user.git({"mv", "renamed-from", "renamed-to"});
  fs::permissions(user.path() / "mode", fs::perms::owner_exec, fs::perm_options::add);
  fs::remove(user.path() / "link");
  fs::create_symlink("elsewhere", user.path() / "link");
  fs::remove_all(user.path() / "dir");
  fs::create_symlink("/etc", user.path() / "dir");
  fs::remove(user.path() / "was-file");
  user.write("was-file/now-below", "y\n");
  fs::remove_all(user.path() / "was-dir");
  user.write("was-dir", "now a file\n");
  user.write("untracked", "u\n", true);
  user.write("new/deep/file", "u\n");
  fs::create_symlink("nowhere", user.path() / "new/link");
  user.write("build.log", "ignored\n");
  user.write("intent", "i\n");
  user.git({"add", "-N", "intent"});
  const auto report = seed();
  expect_same_state();
  EXPECT_GT(report.dirty.staged, 3u);
  EXPECT_GT(report.dirty.modified, 3u);
  EXPECT_EQ(report.dirty.deleted, 4u);
  EXPECT_FALSE(fs::exists(clone.path() / "build.log"));
  EXPECT_EQ(fs::read_symlink(clone.path() / "link"), "elsewhere");
  EXPECT_EQ(clone.tip(), user.tip()) << "uncommitted work must not become a commit";
  EXPECT_EQ(::access((clone.path() / "untracked").c_str(), X_OK), 0);
}

// The file, its index entry and the index have the same time, and the new content has the old one's size.
TEST_F(SeedTest, ChangeWithinTheTickOfTheIndex) {
  user.git({"config", "core.trustctime", "false"});
  user.commit("file", "1\n");
  const auto tick = fs::file_time_type::clock::now() - std::chrono::seconds(5);
  const auto set_time = [&](const char* path) { fs::last_write_time(user.path() / path, tick); };
  user.write("file", "2\n");
  set_time("file");
  user.git({"add", "file"});
  user.write("file", "3\n");
  set_time("file");
  set_time(".git/index");
  seed();
  EXPECT_EQ(clone.git({"show", ":file"}), "2");
  EXPECT_EQ(read_file(clone.path() / "file"), "3\n");
}

TEST_F(SeedTest, UntrackedFolderBehindAnIndexedLinkStaysInside) {
  // The index says "out" is a link that leaves the tree, the work tree has a folder there: a naive copy would write
  // through the link.
  const auto outside = dir / "outside";
  fs::create_directory(outside);
  fs::create_symlink(outside, user.path() / "out");
  user.git({"add", "out"});
  user.git({"commit", "-q", "-m", "link"});
  fs::remove(user.path() / "out");
  user.write("out/file", "u\n");
  seed();
  EXPECT_TRUE(fs::is_empty(outside));
  EXPECT_EQ(clone.read("out/file"), "u\n");
  expect_same_state();
}

TEST_F(SeedTest, DetachedHeadOnACommitWithoutABranch) {
  user.commit("a.txt", "1\n");
  user.git({"switch", "-q", "--detach"});
  const auto tip = user.commit("a.txt", "2\n");
  user.write("a.txt", "3\n");
  const auto report = seed();
  EXPECT_EQ(report.branch, "");
  EXPECT_EQ(report.head, tip);
  EXPECT_FALSE(clone.git_ok({"symbolic-ref", "-q", "HEAD"}));
  EXPECT_EQ(clone.refs(), user.refs());
  expect_same_state();
}

TEST_F(SeedTest, AFolderOfBranchesThatAreGoneIsNoDamage) {
  fs::create_directories(user.path() / ".git/refs/heads/trunk");  // as `git branch -d trunk/one` leaves it
  user.git({"symbolic-ref", "HEAD", "refs/heads/trunk"});
  EXPECT_EQ(seed().branch, "trunk");
}

TEST_F(SeedTest, UnbornBranch) {
  user.git({"symbolic-ref", "HEAD", "refs/heads/trunk"});
  user.write("staged", "s\n");
  user.git({"add", "staged"});
  user.write("loose", "u\n");
  const auto report = seed();
  EXPECT_EQ(report.branch, "trunk");
  EXPECT_EQ(report.head, "");
  expect_same_state();
}

TEST_F(SeedTest, NothingAtAll) {
  EXPECT_EQ(seed().branch, "main");
  expect_same_state();
}

TEST_F(SeedTest, LinkedWorktree) {
  user.commit("a.txt", "1\n");
  user.git({"worktree", "add", "-q", "-b", "side", (dir / "side").string()});
  Repo side(dir / "side");
  side.commit("b.txt", "2\n");
  side.write("c.txt", "3\n");
  auto wanted = request();
  wanted.repository = dir / "side";
  EXPECT_EQ(seed(wanted).branch, "side");
  EXPECT_EQ(clone.tip(), side.tip());
  EXPECT_EQ(clone.status(), side.status());
}

TEST_F(SeedTest, AwkwardNames) {
  for (const char* name : {"sp ace", "tab\there", "new\nline", "quote\"d", "back\\slash", "\xc3\xbc\xe6\xbc\xa2",
                           "-dash", ":colon", "*star", "\xff\xfe"}) {
    user.write(std::string("t ") + name, "1\n");
    user.write(name, "1\n");
  }
  user.git({"add", "--", "./t *"});
  user.git({"commit", "-q", "-m", "names"});
  for (const auto& entry : fs::directory_iterator(user.path()))
    if (entry.is_regular_file() && entry.path().filename().string().starts_with("t "))
      user.write(entry.path().filename(), "2\n");
  user.git({"branch", "\xc3\xbc/\xe6\xbc\xa2"});
  seed();
  expect_same_state();
  EXPECT_EQ(clone.refs(), user.refs());
}

/// What a file system of another kind would take for one: it is two here, and stays so.
TEST_F(SeedTest, NamesThatOtherSystemsTakeForTheSame) {
  const std::pair<std::string, std::string> pairs[] = {{"README", "readme"},
                                                       {"src/A.h", "Src/a.h"},
                                                       {"caf\xc3\xa9", "cafe\xcc\x81"},
                                                       {"na\xc3\xafve/x", "nai\xcc\x88ve/x"}};
  for (const auto& [one, other] : pairs) {
    user.write(one, "one\n");
    user.write(other, "other\n");
  }
  user.git({"add", "."});
  user.git({"commit", "-q", "-m", "names"});
  user.git({"branch", "Topic"});
  user.git({"branch", "topic"});
  for (const auto& [one, other] : pairs) user.write(other, "changed\n");
  // Asked for by a user whose other machine needs it: here it would lose one of each pair.
  user.git({"config", "core.ignorecase", "true"});
  user.git({"config", "core.precomposeunicode", "true"});
  seed();
  for (const auto& [one, other] : pairs) {
    EXPECT_EQ(clone.read(one), "one\n");
    EXPECT_EQ(clone.read(other), "changed\n");
  }
  EXPECT_EQ(clone.refs(), user.refs());
  EXPECT_EQ(clone.git({"diff", "--name-only"}), user.git({"diff", "--name-only"}));
}

TEST_F(SeedTest, UnmergedFilesComeAsPlainChanges) {
  user.commit("a.txt", "base\n");
  user.git({"switch", "-q", "-c", "b"});
  user.commit("a.txt", "theirs\n");
  user.git({"switch", "-q", "main"});
  user.commit("a.txt", "ours\n");
  EXPECT_FALSE(user.git_ok({"merge", "-q", "b"}));
  const auto report = seed();
  EXPECT_THAT(report.warnings, Contains(HasSubstr("1 unmerged file ")));
  EXPECT_THAT(report.warnings, Contains(HasSubstr("a merge is in progress")));
  EXPECT_THAT(clone.read("a.txt"), HasSubstr("<<<<<<<"));
  EXPECT_EQ(clone.status(), " M a.txt");
}

TEST_F(SeedTest, AskedForBranches) {
  user.commit("a.txt", "1\n");
  user.git({"branch", "former"});
  user.git({"update-ref", "refs/remotes/origin/remote-only", "HEAD"});
  user.git({"remote", "add", "origin", "/nowhere"});
  user.commit("a.txt", "2\n");
  user.write("u", "u\n");
  auto wanted = request();
  wanted.branch = "fresh";
  EXPECT_EQ(seed(wanted).head, user.tip());
  EXPECT_EQ(clone.git({"symbolic-ref", "--short", "HEAD"}), "fresh");
  EXPECT_TRUE(fs::exists(clone.path() / "u"));

  wanted.target = dir / "two";
  wanted.branch = "former";
  const auto report = seed(wanted);
  EXPECT_EQ(report.head, user.tip("former"));
  EXPECT_THAT(report.warnings, Contains(HasSubstr("uncommitted changes stay")));
  EXPECT_EQ(Repo(dir / "two").status(), "");

  wanted.target = dir / "three";
  wanted.branch = "remote-only";
  seed(wanted);
  EXPECT_EQ(Repo(dir / "three").git({"rev-parse", "--abbrev-ref", "@{upstream}"}), "origin/remote-only");

  wanted.target = dir / "four";
  wanted.branch = "wip";
  EXPECT_EQ(refusal(wanted, "keeps the name"), ErrorCode::usage);
  wanted.branch = "a..b";
  EXPECT_EQ(refusal(wanted, "'..'"), ErrorCode::usage);
}

TEST_F(SeedTest, Refusals) {
  auto wanted = request();
  wanted.repository = dir / "plain";
  fs::create_directory(dir / "plain");
  EXPECT_EQ(refusal(wanted, "is not a git repository"), ErrorCode::not_found);
  wanted.repository = dir / "absent";
  EXPECT_EQ(refusal(wanted, "is not a folder"), ErrorCode::not_found);
  user.git({"init", "-q", "--bare", (dir / "bare").string()});
  wanted.repository = dir / "bare";
  EXPECT_EQ(refusal(wanted, "bare"), ErrorCode::operation_failed);
  user.git({"init", "-q", "--object-format=sha256", (dir / "sha256").string()});
  wanted.repository = dir / "sha256";
  EXPECT_EQ(refusal(wanted, "sha256"), ErrorCode::operation_failed);
  user.commit("a.txt", "1\n");
  user.commit("a.txt", "2\n");
  user.git({"clone", "-q", "--depth=1", "file://" + user.path().string(), (dir / "shallow").string()});
  wanted.repository = dir / "shallow";
  EXPECT_EQ(refusal(wanted, "shallow"), ErrorCode::operation_failed);
  user.git({"config", "uploadpack.allowFilter", "true"});
  user.git({"clone", "-q", "--filter=blob:none", "file://" + user.path().string(), (dir / "partial").string()});
  wanted.repository = dir / "partial";
  EXPECT_EQ(refusal(wanted, "partial"), ErrorCode::operation_failed);
  wanted = request();
  fs::create_directory(dir / "clone");
  clone.write("something", "x");
  EXPECT_EQ(refusal(wanted, "is not empty"), ErrorCode::wrong_state);
}

/// Never a workspace without the history that is called a success.
TEST_F(SeedTest, DamagedRepositoriesAreRefused) {
  user.commit("a.txt", "1\n");
  user.commit("a.txt", "2\n");
  const auto object = [&](const std::string& name) {
    const auto oid = user.git({"rev-parse", name});
    return fs::path(".git/objects") / oid.substr(0, 2) / oid.substr(2, 38);
  };
  const auto commit = object("HEAD"), parent = object("HEAD^"), tree = object("HEAD^{tree}"),
             blob = object("HEAD:a.txt");
  using Damage = std::function<void(const fs::path&)>;
  const auto written = [](const char* file, const std::string& text) -> Damage {
    return [=](const fs::path& where) { write_file_atomic(where / file, text); };
  };
  const auto gone = [](const fs::path& file) -> Damage {
    return [=](const fs::path& where) { ASSERT_TRUE(fs::remove(where / file)) << file; };
  };
  const std::vector<std::tuple<std::string, Damage, std::string>> cases = {
      {"cut-branch", written(".git/refs/heads/main", ""), "names no commit that is there"},
      {"garbage-branch", written(".git/refs/heads/main", "nonsense\n"), "names no commit that is there"},
      {"head-of-nothing", written(".git/HEAD", std::string(40, 'a') + "\n"), "names no commit that is there"},
      {"garbage-head", written(".git/HEAD", "nonsense\n"), "not a git repository"},
      {"garbage-index", written(".git/index", "nonsense"), "index"},
      {"no-commit", gone(commit), ""},
      {"no-parent", gone(parent), ""},
      {"no-tree", gone(tree), ""},
      {"no-file", gone(blob), ""},
  };
  for (const auto& [name, damage, words] : cases) {
    auto wanted = request();
    wanted.repository = dir / name;
    fs::copy(user.path(), wanted.repository, fs::copy_options::recursive);
    damage(wanted.repository);
    const auto code = refusal(wanted, words);
    EXPECT_TRUE(code == ErrorCode::operation_failed || code == ErrorCode::not_found) << name;
    remove_tree(dir / "clone");  // the caller's, and never taken for a workspace
  }
}

TEST_F(SeedTest, WarnsOfWhatComesWithoutContent) {
  auto library = Repo::init(dir / "library");
  library.commit("l.txt", "l\n");
  user.git({"-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library.path().string(), "lib"});
  user.write(".gitattributes", "*.bin filter=lfs diff=lfs\n");
  user.git({"add", "."});
  user.git({"commit", "-q", "-m", "sub"});
  user.write("nested/.keep", "");
  Repo::init(user.path() / "nested");
  const auto report = seed();
  EXPECT_THAT(report.warnings, Contains(HasSubstr("submodules")));
  EXPECT_THAT(report.warnings, Contains(HasSubstr("LFS")));
  EXPECT_THAT(report.warnings, Contains(HasSubstr("nested repository nested/")));
  EXPECT_TRUE(fs::is_directory(clone.path() / "lib"));
}

TEST_F(SeedTest, SparseCheckoutComesWhole) {
  user.commit("keep/a", "1\n");
  user.commit("drop/b", "1\n");
  user.git({"sparse-checkout", "set", "keep"});
  ASSERT_FALSE(fs::exists(user.path() / "drop"));
  EXPECT_THAT(seed().warnings, Contains(HasSubstr("sparse")));
  EXPECT_EQ(clone.read("drop/b"), "1\n");
  EXPECT_EQ(clone.status(), "");
}

TEST_F(SeedTest, HostConfigurationAndHooksStayOut) {
  user.commit("a.txt", "1\n");
  const auto canary = (dir / "canary").string();
  user.git({"config", "core.fsmonitor", "touch " + canary});
  user.git({"config", "filter.evil.smudge", "touch " + canary});
  user.git({"config", "core.sshCommand", "secret-wrapper"});
  user.write(".git/hooks/post-checkout", "#!/bin/sh\ntouch " + canary + "\n", true);
  auto wanted = request();
  wanted.identity = SeedRequest::Identity{"Agent \"A\"", "agent@example.org"};
  seed(wanted);
  EXPECT_FALSE(fs::exists(canary));
  const auto config = clone.read(".git/config");
  EXPECT_THAT(config, testing::Not(HasSubstr("secret-wrapper")));
  EXPECT_EQ(clone.git({"config", "user.name"}), "Agent \"A\"");
  EXPECT_FALSE(fs::exists(clone.path() / ".git/hooks/post-checkout"));
}

TEST_F(SeedTest, OwnerIsGivenWithoutFollowingLinks) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  user.commit("a.txt", "1\n");
  fs::create_symlink(dir / "outside", user.path() / "link");
  fs::create_directory(dir / "outside");
  auto wanted = request();
  wanted.owner = SeedRequest::Owner{101000, 101001};
  seed(wanted);
  struct stat status {};
  for (const char* name : {"", "a.txt", "link", ".git/config", ".git/objects"}) {
    ASSERT_EQ(::lstat((clone.path() / name).c_str(), &status), 0) << name;
    EXPECT_EQ(status.st_uid, 101000u) << name;
    EXPECT_EQ(status.st_gid, 101001u) << name;
  }
  ASSERT_EQ(::lstat((dir / "outside").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0u);
}

TEST_F(SeedTest, StreamedIntoAGuestWithItsOwnDisk) {
  user.commit("a.txt", "1\n");
  user.write("new\nline", "x", true);
  seed();
  fs::create_directories(dir / "disk" / "lost+found");
  test::FakeStreams streams;
  const auto count = stream_workspace(dir / "clone", streams, (dir / "disk").string(), no_progress(),
                                      Deadline::after(std::chrono::seconds(30)));
  EXPECT_GT(count, 10u);
  EXPECT_EQ(Repo(dir / "disk").status(), clone.status());
  EXPECT_EQ(Repo(dir / "disk").tip(), user.tip());
  EXPECT_EQ(Repo(dir / "disk").read("new\nline"), "x");
  try {
    stream_workspace(dir / "clone", streams, (dir / "missing").string(), no_progress(),
                     Deadline::after(std::chrono::seconds(30)));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("did not arrive"));
  }
}

TEST(AddressWithoutSecret, DropsPasswordsAndKeepsWhatTheAddressNeeds) {
  EXPECT_EQ(address_without_secret("https://user:pw@host/p"), "https://host/p");
  EXPECT_EQ(address_without_secret("https://token@host:8443/p"), "https://host:8443/p");
  EXPECT_EQ(address_without_secret("ssh://git:pw@host/p"), "ssh://git@host/p");
  EXPECT_EQ(address_without_secret("ssh://git@host/p"), "ssh://git@host/p");
  EXPECT_EQ(address_without_secret("https://host/p@v1"), "https://host/p@v1");
  EXPECT_EQ(address_without_secret("https://a:b@c@host/p"), "https://host/p");
  EXPECT_EQ(address_without_secret("git@host:p"), "git@host:p");
  EXPECT_EQ(address_without_secret("/srv/p"), "/srv/p");
}

}  // namespace
}  // namespace agentvm::sync
