#include "vmm/base/files.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/file_lock.hpp"

namespace agentvm {
namespace {

using test::error_of;
using testing::HasSubstr;

struct FilesTest : testing::Test {
  test::TemporaryFolder folder;
  std::size_t entries() { return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder.path()), {})); }
};

TEST_F(FilesTest, AtomicWriteReplacesAndSetsTheMode) {
  const auto path = folder / "file";
  write_file_atomic(path, "one", 0644);
  write_file_atomic(path, "two");
  EXPECT_EQ(read_file(path), "two");
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
  EXPECT_EQ(entries(), 1U) << "no temporary stays";
}

TEST_F(FilesTest, AtomicWriteReplacesASymlinkAndNotItsTarget) {
  write_file_atomic(folder / "target", "precious");
  fs::create_symlink(folder / "target", folder / "link");
  write_file_atomic(folder / "link", "new");
  EXPECT_EQ(read_file(folder / "target"), "precious");
  EXPECT_FALSE(fs::is_symlink(folder / "link"));
}

TEST_F(FilesTest, AFailedWriteLeavesNoTemporary) {
  fs::create_directory(folder / "taken");
  EXPECT_TRUE(error_of([&] { write_file_atomic(folder / "taken", "x"); }));
  EXPECT_EQ(entries(), 1U);
  EXPECT_EQ(error_of([&] { write_file_atomic(folder / "absent/file", "x"); })->code(), ErrorCode::not_found);
}

TEST_F(FilesTest, ReadsAreCapped) {
  write_file_atomic(folder / "file", "0123456789");
  EXPECT_EQ(read_file(folder / "file", 10).size(), 10U);
  EXPECT_EQ(error_of([&] { read_file(folder / "file", 9); })->code(), ErrorCode::operation_failed);
  EXPECT_EQ(error_of([&] { read_file("/dev/zero", 1000); })->code(), ErrorCode::operation_failed);
  EXPECT_EQ(error_of([&] { read_file(folder / "absent"); })->code(), ErrorCode::not_found);
  EXPECT_FALSE(read_file_if_exists(folder / "absent"));
  EXPECT_EQ(read_tail(folder / "file", 3), "789");
  EXPECT_EQ(read_tail(folder / "file", 100), "0123456789");
  EXPECT_EQ(read_tail(folder / "absent", 3), "");
}

TEST_F(FilesTest, PrivateFoldersAreMadePrivateAndCheckedWhenThere) {
  ensure_private_dir(folder / "a/b/c");
  for (const auto* name : {"a", "a/b", "a/b/c"})
    EXPECT_EQ(fs::status(folder / name).permissions(), fs::perms::owner_all) << name;
  EXPECT_NO_THROW(ensure_private_dir(folder / "a/b/c"));
  fs::permissions(folder / "a/b/c", fs::perms(0770));
  EXPECT_THAT(error_of([&] { ensure_private_dir(folder / "a/b/c"); })->hint(), HasSubstr("chmod"));
  fs::create_directory_symlink(folder / "a", folder / "link");
  EXPECT_THAT(error_of([&] { ensure_private_dir(folder / "link"); })->message(), HasSubstr("is not a directory"));
  write_file_atomic(folder / "file", "");
  EXPECT_TRUE(error_of([&] { ensure_private_dir(folder / "file"); }));
  EXPECT_TRUE(error_of([&] { ensure_private_dir(folder / "file/below"); }));
  fs::create_symlink(folder / "nowhere", folder / "dangling");
  EXPECT_TRUE(error_of([&] { ensure_private_dir(folder / "dangling"); }));
}

TEST_F(FilesTest, FoldersReadableByOthersAreNotPrivate) {
  fs::create_directory(folder / "open");
  fs::permissions(folder / "open", fs::perms(0755));
  const auto error = error_of([&] { ensure_private_dir(folder / "open"); });
  ASSERT_TRUE(error) << "the contract says closed to others";
  EXPECT_THAT(error->hint(), HasSubstr("chmod"));
}

TEST_F(FilesTest, ForeignFoldersAreRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a folder away";
  fs::create_directory(folder / "theirs");
  fs::permissions(folder / "theirs", fs::perms(0700));
  ASSERT_EQ(::chown((folder / "theirs").c_str(), 12345, 12345), 0);
  EXPECT_THAT(error_of([&] { ensure_private_dir(folder / "theirs"); })->message(), HasSubstr("belongs to uid 12345"));
}

TEST_F(FilesTest, RemoveTreeNeverFollowsSymlinks) {
  fs::create_directories(folder / "outside/deep");
  write_file_atomic(folder / "outside/deep/precious", "x");
  fs::create_directories(folder / "tree/a/b");
  fs::create_directory_symlink(folder / "outside", folder / "tree/a/link");
  fs::create_symlink(folder / "outside/deep/precious", folder / "tree/file-link");
  fs::create_symlink("/nowhere", folder / "tree/dangling");
  write_file_atomic(folder / "tree/a/b/file", "x");
  remove_tree(folder / "tree");
  EXPECT_FALSE(fs::exists(folder / "tree"));
  EXPECT_TRUE(fs::exists(folder / "outside/deep/precious"));
  fs::create_directory_symlink(folder / "outside", folder / "link");
  remove_tree(folder / "link");
  EXPECT_FALSE(fs::is_symlink(folder / "link"));
  EXPECT_TRUE(fs::exists(folder / "outside/deep/precious"));
  EXPECT_NO_THROW(remove_tree(folder / "absent"));
}

// A guest makes folders as deep as it likes, without permission bits: removal may exhaust neither stack nor
// descriptors.
TEST_F(FilesTest, RemoveTreeTakesDeepAndClosedTrees) {
  fs::create_directory(folder / "deep");
  auto fd = open_file(folder / "deep", O_RDONLY | O_DIRECTORY);
  constexpr int depth = 3000;
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  for (int i = 0; i < depth; ++i) {
    ASSERT_EQ(::mkdirat(fd.get(), "d", 0700), 0);
    fd = UniqueFd(::openat(fd.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(fd);
  }
  fd.reset();
  const rlimit few{128, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  EXPECT_NO_THROW(remove_tree(folder / "deep"));
  ::setrlimit(RLIMIT_NOFILE, &limit);
  EXPECT_FALSE(fs::exists(folder / "deep"));
  fs::create_directories(folder / "closed/inner/x");
  fs::permissions(folder / "closed/inner", fs::perms::none);
  EXPECT_NO_THROW(remove_tree(folder / "closed"));
}

TEST_F(FilesTest, RemoveTreeStopsAtMountPoints) {
  fs::create_directories(folder / "tree/mounted");
  if (::mount("none", (folder / "tree/mounted").c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "needs the right to mount";
  write_file_atomic(folder / "tree/mounted/precious", "x");
  const auto error = error_of([&] { remove_tree(folder / "tree"); });
  const bool kept = fs::exists(folder / "tree/mounted/precious");
  ::umount2((folder / "tree/mounted").c_str(), MNT_DETACH);
  EXPECT_TRUE(kept);
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), HasSubstr("mount point"));
}

TEST_F(FilesTest, LocksExcludeAndEndWithTheirOwner) {
  auto lock = FileLock::try_acquire(folder / "lock");
  ASSERT_TRUE(lock);
  lock->record_pid();
  EXPECT_FALSE(FileLock::try_acquire(folder / "lock"));
  const auto error = error_of([&] { FileLock::acquire(folder / "lock", Deadline::after(milliseconds(40))); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::timed_out);
  EXPECT_THAT(error->message(), HasSubstr("pid " + std::to_string(::getpid())));
  lock.reset();
  EXPECT_TRUE(FileLock::try_acquire(folder / "lock"));
  fs::create_symlink(folder / "lock", folder / "link");
  EXPECT_TRUE(error_of([&] { FileLock::try_acquire(folder / "link"); })) << "a lock file is never followed elsewhere";
}

TEST(RandomHex, IsLongEnoughAndDiffers) {
  EXPECT_EQ(random_hex(16).size(), 32U);
  EXPECT_NE(random_hex(16), random_hex(16));
}

}  // namespace
}  // namespace agentvm
