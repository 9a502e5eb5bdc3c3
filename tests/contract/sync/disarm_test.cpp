// git itself says whether something below a folder is a repository.
#include "sync/salvage/disarm.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::sync {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class Disarm : public testing::Test {
 protected:
  std::string shell(const std::string& text, const fs::path& where) {
    return run({.argv = {"sh", "-c", text}, .cwd = where.string()}, Deadline::after(std::chrono::seconds(30))).out;
  }
  /// What a prompt would run: the canary is the file system monitor of every repository made here.
  bool runs(const fs::path& where) {
    fs::remove(dir / "canary");
    shell("git status; git log -1; git rev-parse --git-dir; git ls-files -m", where);
    return fs::exists(dir / "canary");
  }
  void arm(const fs::path& repository) {
    shell("git config core.fsmonitor 'touch " + (dir / "canary").string() + "'", repository);
  }
  test::TemporaryFolder dir;
  const fs::path copy = dir / "copy";
};

TEST_F(Disarm, NoRepositoryIsOneAfterwards) {
  fs::create_directories(copy);
  shell(
      "git init -q . && git -c user.name=a -c user.email=a@b.example commit -q --allow-empty -m x && git worktree add "
      "-q -b side tree",
      copy);
  shell("git init -q --bare inner/bare.git && mkdir -p deep/er && git clone -q . deep/er/clone 2>/dev/null", copy);
  for (const auto& each : {copy, copy / "inner/bare.git", copy / "deep/er/clone"}) arm(each);
  ASSERT_TRUE(runs(copy)) << "the canary sings at all";
  const auto renamed = disarm_repositories(copy);
  EXPECT_THAT(renamed, ElementsAre(".git/HEAD", ".git/worktrees/tree/HEAD", "deep/er/clone/.git/HEAD",
                                   "inner/bare.git/HEAD", "tree/.git"));
  for (const auto& each :
       {"", ".git", ".git/worktrees/tree", "tree", "inner/bare.git", "deep/er/clone", "deep/er/clone/.git"})
    EXPECT_FALSE(runs(copy / each)) << each;
  EXPECT_TRUE(fs::exists(copy / ".git/HEAD.rescued"));
  EXPECT_THAT(disarm_repositories(copy), IsEmpty());
}

TEST(Repositories, ANameThatMakesOne) {
  for (const char* name : {".git", ".GIT", ".Git"}) EXPECT_TRUE(names_a_repository(name)) << name;
  for (const char* name : {"git", ".gitx", ".github", ""}) EXPECT_FALSE(names_a_repository(name)) << name;
}

TEST_F(Disarm, LinksAndOtherCasesCountAndNothingElseDoes) {
  const auto outside = dir / "outside";
  fs::create_directories(copy / "plain");
  fs::create_directories(outside);
  shell("git init -q .", outside);
  fs::create_directory_symlink(outside, copy / "way");
  fs::create_symlink(outside / ".git", copy / ".Git");
  shell("mkdir -p odd/Objects && echo x >odd/Head && echo x >plain/HEAD && echo x >plain/HEAD.rescued", copy);
  shell("mkdir twice twice/commondir && echo a >twice/HEAD && echo b >twice/HEAD.rescued", copy);
  EXPECT_THAT(disarm_repositories(copy), ElementsAre(".Git", "odd/Head", "twice/HEAD"));
  EXPECT_TRUE(fs::exists(outside / ".git/HEAD")) << "nothing outside is touched";
  EXPECT_TRUE(fs::exists(copy / "plain/HEAD"));
  EXPECT_EQ(read_file(copy / "twice/HEAD.rescued"), "b\n");
  EXPECT_EQ(read_file(copy / "twice/HEAD.rescued2"), "a\n");
}

}  // namespace
}  // namespace agentvm::sync
