#include <gmock/gmock.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/process.hpp"
#include "vmm/plan.hpp"

namespace agentvm {
namespace {

using test::error_of;
using testing::HasSubstr;

/// Real repositories, made by git itself.
struct ProjectTest : testing::Test {
  test::TemporaryFolder folder;

  void git(std::vector<std::string> arguments) {
    ProcessSpec spec{.argv = {"git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c",
                              "init.defaultBranch=trunk", "-c", "protocol.file.allow=always"}};
    spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
    spec.env = {{"PATH", "/usr/bin:/bin"}, {"HOME", folder.path().string()}, {"GIT_CONFIG_NOSYSTEM", "1"}};
    spec.cwd = folder.path().string();
    run_checked(spec, Deadline::after(std::chrono::seconds(20)));
  }
  void make_repository(const std::string& name) {
    git({"init", "-q", name});
    git({"-C", name, "commit", "-q", "--allow-empty", "-m", "one"});
  }
  std::string top_level_by_git(const fs::path& where) {
    ProcessSpec spec{.argv = {"git", "-C", where.string(), "rev-parse", "--show-toplevel"}};
    auto text = run_checked(spec, Deadline::after(std::chrono::seconds(20)));
    text.pop_back();
    return text;
  }
  Error not_found(const fs::path& where) {
    const auto error = error_of([&] { find_project(where); });
    if (!error) return Error(ErrorCode::operation_failed, "found a project");
    EXPECT_EQ(error->code(), ErrorCode::not_found);
    EXPECT_FALSE(error->hint().empty());
    return *error;
  }
};

TEST_F(ProjectTest, AgreesWithGitAboutTheTopLevel) {
  make_repository("repo");
  fs::create_directories(folder / "repo/a/b");
  git({"-C", "repo", "worktree", "add", "-q", "../tree", "-b", "side"});
  make_repository("library");
  git({"-C", "repo", "submodule", "--quiet", "add", (folder / "library").string(), "sub"});
  fs::create_directory_symlink(folder / "repo/a", folder / "link");
  for (const auto* where : {"repo", "repo/a", "repo/a/b", "tree", "repo/sub", "link", "link/b"}) {
    EXPECT_EQ(find_project(folder / where).root, top_level_by_git(folder / where)) << where;
  }
  EXPECT_EQ(find_project(folder / "repo/a/b").subfolder, "a/b");
  EXPECT_EQ(find_project(folder / "repo").subfolder, "");
  EXPECT_EQ(current_branch(find_project(folder / "repo")), "trunk");
  EXPECT_EQ(current_branch(find_project(folder / "tree")), "side");
}

TEST_F(ProjectTest, DetachedHeadHasNoBranch) {
  make_repository("repo");
  git({"-C", "repo", "checkout", "-q", "--detach"});
  EXPECT_FALSE(current_branch(find_project(folder / "repo")));
}

TEST_F(ProjectTest, AnEmptyDotGitIsNoRepository) {
  make_repository("repo");
  fs::create_directories(folder / "repo/inner/.git");
  EXPECT_EQ(find_project(folder / "repo/inner").root, folder / "repo");
  write_file_atomic(folder / "repo/a-file", "");
  fs::create_directories(folder / "repo/other");
  write_file_atomic(folder / "repo/other/.git", "gitdir: /nowhere\n");
  EXPECT_EQ(find_project(folder / "repo/other").root, folder / "repo");
}

TEST_F(ProjectTest, WhatIsNoWorkTreeIsToldApart) {
  fs::create_directories(folder / "plain");
  EXPECT_THAT(not_found(folder / "plain").message(), HasSubstr("not a git repository"));
  EXPECT_THAT(not_found(folder / "absent").message(), HasSubstr("No such file"));
  write_file_atomic(folder / "file", "");
  EXPECT_THAT(not_found(folder / "file").message(), HasSubstr("is not a folder"));
  git({"init", "-q", "--bare", "bare"});
  EXPECT_THAT(not_found(folder / "bare").message(), HasSubstr("bare git repository"));
  EXPECT_THAT(not_found(folder / "bare/objects").message(), HasSubstr("bare git repository"));
  make_repository("repo");
  EXPECT_THAT(not_found(folder / "repo/.git").message(), HasSubstr("inside a .git folder"));
  EXPECT_THAT(not_found(folder / "repo/.git/refs").message(), HasSubstr("inside a .git folder"));
}

TEST_F(ProjectTest, PathsThatJsonCannotHoldAreRefused) {
  const auto path = folder / "bad-\xff";
  fs::create_directories(path);
  const auto error = error_of([&] { find_project(path); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::usage);
  EXPECT_THAT(error->message(), HasSubstr("not valid UTF-8"));
}

}  // namespace
}  // namespace agentvm
