// Copies of files that are mostly holes.

#include "vmm/disk/sparse_copy.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"
#include "vmm/disk/overlay.hpp"

namespace agentvm {
namespace {

constexpr std::size_t length_bytes = 8u << 20;

Deadline soon() {
  return Deadline::after(milliseconds(30'000));
}

/// 8 MiB: zeros that are written, a hole, a few bytes in the middle of a block, a hole, and a whole block at the end.
std::string sparse_text() {
  std::string text(length_bytes, '\0');
  text.replace(3'000'001, 5, "inner");
  text.replace(length_bytes - 4096, 4096, 4096, 'e');
  return text;
}

fs::path write_sample(const fs::path& path) {
  const auto text = sparse_text();
  const auto file = open_file(path, O_RDWR | O_CREAT);
  EXPECT_EQ(::ftruncate(file.get(), length_bytes), 0);
  for (const auto& [start, size] :
       {std::pair<std::size_t, std::size_t>{0, 65536}, {3'000'000, 100}, {length_bytes - 4096, 4096}})
    EXPECT_EQ(::pwrite(file.get(), text.data() + start, size, static_cast<off_t>(start)), static_cast<ssize_t>(size));
  return path;
}

UniqueFd memory(std::size_t size) {
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
  return fd;
}

TEST(SparseCopy, IsTheSameAndTakesWhatIsNotZero) {
  const test::TemporaryFolder folder;
  const auto from = write_sample(folder / "from");
  const auto into = open_file(folder / "into", O_RDWR | O_CREAT);
  const auto copied = copy_sparse(open_file(from, O_RDONLY).get(), into.get(), soon());
  EXPECT_EQ(read_file(folder / "into"), sparse_text());
  EXPECT_LE(copied, 3u * 4096);
  EXPECT_LE(allocated_bytes(folder / "into"), 64u << 10);
}

TEST(SparseCopy, MemoryThatHeldSomethingElseHoldsTheCopyAlone) {
  const test::TemporaryFolder folder;
  const auto from = write_sample(folder / "from");
  const auto into = memory(length_bytes);
  const std::string before(length_bytes, 'x');
  ASSERT_EQ(::pwrite(into.get(), before.data(), before.size(), 0), static_cast<ssize_t>(before.size()));
  copy_sparse(open_file(from, O_RDONLY).get(), into.get(), soon());
  std::string after(length_bytes, '\0');
  ASSERT_EQ(::pread(into.get(), after.data(), after.size(), 0), static_cast<ssize_t>(after.size()));
  EXPECT_EQ(after, sparse_text());
}

TEST(SparseCopy, MemoryOfAnotherSizeIsRefused) {
  const test::TemporaryFolder folder;
  const auto from = write_sample(folder / "from");
  EXPECT_TRUE(test::error_of([&] { copy_sparse(open_file(from, O_RDONLY).get(), memory(4096).get(), soon()); }));
}

TEST(SparseCopy, AFileIsCopiedWholeOrNotAtAll) {
  const test::TemporaryFolder folder;
  const auto from = write_sample(folder / "from");
  copy_sparse_file(from, folder / "into", soon());
  EXPECT_EQ(read_file(folder / "into"), sparse_text());
  EXPECT_EQ(fs::status(folder / "into").permissions(), fs::perms(0600));
  EXPECT_TRUE(test::error_of([&] { copy_sparse_file(from, folder / "into", soon()); })) << "nothing is overwritten";
  EXPECT_EQ(test::error_of([&] { copy_sparse_file(folder / "absent", folder / "other", soon()); })->code(),
            ErrorCode::not_found);
  EXPECT_FALSE(fs::exists(folder / "other"));
}

}  // namespace
}  // namespace agentvm
