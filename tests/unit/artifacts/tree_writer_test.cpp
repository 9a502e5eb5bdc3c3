// Writing below a folder whose tree somebody else changes meanwhile.
#include "sync/artifacts/tree_writer.hpp"

#include <atomic>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/support/temporary_folder.hpp"
#include "tests/support/tier.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

class TreeWriterTest : public testing::Test {
 protected:
  TreeWriterTest() {
    fs::create_directories(root / "tree/dist/sub");
    fs::create_directories(root / "canary/sub");
    std::ofstream(root / "canary/file") << "canary";
    folder = UniqueFd(::open((root / "tree").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    tree.emplace(folder.get());
  }
  std::optional<std::string> put(const std::string& path, const std::string& text) {
    tree->begin(false);
    tree->write(text);
    return tree->commit(path, 5'000'000'000);
  }
  /// What stands outside: nothing of it may change.
  std::string canary() const {
    std::string text;
    for (const auto& entry : fs::recursive_directory_iterator(root / "canary"))
      if (!entry.is_directory()) text += entry.path().filename().string() + "=" + read_file(entry.path()) + "\n";
    return text;
  }

  const test::TemporaryFolder root;
  UniqueFd folder;
  std::optional<TreeWriter> tree;
};

TEST_F(TreeWriterTest, WritesReplacesAndMakesFolders) {
  EXPECT_FALSE(put("new/deep/file", "one"));
  EXPECT_FALSE(put("new/deep/file", "two"));
  EXPECT_EQ(read_file(root / "tree/new/deep/file"), "two");
  const auto found = tree->look("new/deep/file");
  EXPECT_EQ(found.kind, TreeWriter::Found::Kind::file);
  EXPECT_EQ(found.size, 3u);
  EXPECT_EQ(found.mtime_ns, 5'000'000'000);
  EXPECT_EQ(tree->look("new/deep/none").kind, TreeWriter::Found::Kind::nothing);
  EXPECT_EQ(tree->look("none/deep/none").kind, TreeWriter::Found::Kind::nothing);
  EXPECT_EQ(tree->look("new/deep").kind, TreeWriter::Found::Kind::blocked);
  EXPECT_EQ(tree->look("new/deep/file/below").kind, TreeWriter::Found::Kind::blocked);
}

TEST_F(TreeWriterTest, FollowsNoLinkOnTheWayAndNoneAtTheEnd) {
  fs::create_directory_symlink(root / "canary", root / "tree/dist/link");
  fs::create_directory_symlink("../../canary", root / "tree/dist/relative");
  fs::create_directory_symlink("sub", root / "tree/dist/inside");
  fs::create_symlink(root / "canary/file", root / "tree/dist/file");
  for (const char* path :
       {"dist/link/file", "dist/link/new", "dist/link/a/b", "dist/relative/new", "dist/inside/new"}) {
    EXPECT_EQ(tree->look(path).kind, TreeWriter::Found::Kind::blocked) << path;
    EXPECT_TRUE(put(path, "evil")) << path;
  }
  EXPECT_EQ(tree->look("dist/file").kind, TreeWriter::Found::Kind::link);
  EXPECT_FALSE(put("dist/file", "replaced"));
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(root / "tree/dist/file")));
  EXPECT_EQ(canary(), "file=canary\n");
}

TEST_F(TreeWriterTest, PathsThatLeaveAreRefusedHereToo) {
  const std::vector<std::string> paths{"../canary/new", "dist/../../canary/new", (root / "canary/new").string()};
  for (const auto& path : paths)
    EXPECT_TRUE(test::error_of([&] {
      if (put(path, "evil")) throw Error(ErrorCode::operation_failed, "in the way");
    })) << path;
  EXPECT_EQ(canary(), "file=canary\n");
}

TEST_F(TreeWriterTest, ADraftOfAKilledRunIsNoLink) {
  fs::create_symlink(root / "canary/file", root / "tree" / TreeWriter::draft_name);
  EXPECT_FALSE(put("dist/file", "new"));
  EXPECT_EQ(canary(), "file=canary\n");
  EXPECT_FALSE(fs::exists(fs::symlink_status(root / "tree" / TreeWriter::draft_name)));
}

/// Somebody exchanges folders for links to the canary, as fast as can be, while files are written: in a minute's run
/// (AGENTVM_TEST_TIER=full) as in a second's, not one touch.
TEST_F(TreeWriterTest, ARaceOfRenamesTouchesNothingOutside) {
  fs::create_directory_symlink(root / "canary", root / "tree/trap");
  fs::create_symlink(root / "canary/file", root / "tree/trap-file");
  const std::chrono::seconds span(test::full_tier() ? 60 : 3);
  std::atomic<bool> over = false;
  const auto exchange = [](const fs::path& a, const fs::path& b) {
    return ::syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), 2 /* RENAME_EXCHANGE */) == 0;
  };
  std::uint64_t exchanged = 0;
  std::thread racer([&] {
    while (!over) {
      // There and back: a folder of the tree must not be reached through the trap by us ourselves.
      for (const char* name : {"tree/dist/sub", "tree/dist/sub", "tree/dist", "tree/dist"})
        exchanged += exchange(root / name, root / "tree/trap");
      exchange(root / "tree/trap-file", root / "tree" / TreeWriter::draft_name);
    }
  });
  const auto end = std::chrono::steady_clock::now() + span;
  std::uint64_t written = 0, refused = 0;
  for (int i = 0; std::chrono::steady_clock::now() < end; ++i) {
    const auto path = (i % 2 ? "dist/sub/" : "dist/") + std::to_string(i % 50);
    try {
      tree->look(path);
      put(path, "x") ? ++refused : ++written;
      if (i % 7 == 0) tree->link("dist/sub/link", "0");
    } catch (const Error&) {
      ++refused;
    }
  }
  over = true;
  racer.join();
  EXPECT_EQ(canary(), "file=canary\n");
  EXPECT_GT(written, 0u);
  EXPECT_GT(refused, 0u);
  EXPECT_GT(exchanged, 100u);
  std::cout << written << " written, " << refused << " refused, " << exchanged << " exchanges\n";
}

}  // namespace
}  // namespace agentvm::sync
