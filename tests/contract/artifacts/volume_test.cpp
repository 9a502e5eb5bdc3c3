// What much costs: a hundred thousand small files, and one of 4 GiB, through the real sender and the real child.
#include <chrono>
#include <fstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/artifacts/artifacts.hpp"
#include "tests/contract/artifacts/artifact_request.hpp"
#include "tests/support/child_watch.hpp"
#include "tests/support/fake_streams.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tier.hpp"

namespace agentvm::sync {
namespace {

constexpr std::uint64_t memory_bytes = 256u << 20;  // what the child takes for a hundred thousand names stays below

class ArtifactVolume : public testing::Test {
 protected:
  ArtifactVolume() {
    for (const auto& folder : {guest / "dist", dir / "host", dir / "state"}) fs::create_directories(folder);
    request = test::artifact_request(dir.path(), guest);
  }
  ReceiveVerdict fetch(const std::string& what) {
    test::FakeStreams streams;
    test::ChildWatch child("agentvm-artifacts");
    const auto begun = std::chrono::steady_clock::now();
    auto outcome = fetch_artifacts(request, streams, no_progress(), {}, Deadline::after(std::chrono::seconds(600)));
    const auto took = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begun);
    const auto cost = child.cost();
    RecordProperty(what + "_wall_milliseconds", static_cast<int>(took.count()));
    RecordProperty(what + "_cpu_milliseconds", static_cast<int>(cost.cpu.count()));
    RecordProperty(what + "_private_kibibytes", static_cast<int>(cost.private_bytes >> 10));
    // Where there is nothing to do the child may be gone before it is looked at.
    if (what == "first") {
      EXPECT_GT(cost.seen, 0);
    }
    EXPECT_LT(cost.private_bytes, memory_bytes);
    EXPECT_EQ(outcome.verdict.left_out_count, 0u);
    return std::move(outcome.verdict);
  }
  static void write(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

  const test::TemporaryFolder dir;
  const fs::path guest = dir / "guest";
  ArtifactRequest request;
};

/// Outside the full tier a tenth of them: making and removing them is most of what it costs.
TEST_F(ArtifactVolume, AHundredThousandFilesAndThenOnlyWhatIsNew) {
  const int folders = test::full_tier() ? 100 : 10;
  constexpr int files_each = 1'000;
  const auto count = static_cast<std::uint64_t>(folders) * files_each;
  constexpr auto name = [](int folder, int file) { return fmt::format("dist/{:02}/f{:03}.js", folder, file); };
  for (int folder = 0; folder < folders; ++folder) {
    fs::create_directory(guest / fmt::format("dist/{:02}", folder));
    for (int file = 0; file < files_each; ++file) write(guest / name(folder, file), fmt::format("{}\n", file * folder));
  }
  const auto first = fetch("first");
  EXPECT_EQ(first.files, count);
  for (int folder = 0; folder < folders; folder += 7)
    for (int file = 0; file < files_each; file += 111)
      EXPECT_EQ(read_file(dir / "host" / name(folder, file)), fmt::format("{}\n", file * folder));
  std::size_t there = 0;
  for (const auto& entry : fs::recursive_directory_iterator(dir / "host")) there += entry.is_regular_file() ? 1 : 0;
  EXPECT_EQ(there, count) << "and no draft of one";

  const auto second = fetch("nothing_new");
  EXPECT_EQ(second.files, 0u);
  EXPECT_EQ(second.bytes, 0u);
  EXPECT_EQ(second.unchanged, count);

  write(guest / name(5, 500), "changed");
  const auto third = fetch("one_new");
  EXPECT_EQ(third.files, 1u);
  EXPECT_EQ(third.bytes, 7u);
  EXPECT_EQ(read_file(dir / "host" / name(5, 500)), "changed");
}

/// With more than 2^32 bytes, and its ends and what lies around 2^32 in it; the rest are holes, which stay holes.
TEST_F(ArtifactVolume, AFileOfFourGibibytes) {
  constexpr std::uint64_t border = 1ULL << 32, size = border + (5u << 20);
  const auto file = guest / "dist/image";
  const auto put = [](int fd, std::uint64_t at, const std::string& text) {
    ASSERT_EQ(::pwrite(fd, text.data(), text.size(), static_cast<off_t>(at)), static_cast<ssize_t>(text.size()));
  };
  {
    const auto fd = open_file(file, O_WRONLY | O_CREAT | O_EXCL, 0644);
    ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
    put(fd.get(), 0, "head");
    put(fd.get(), (border >> 1) - 3, "middle");
    put(fd.get(), border - 3, "border");
    put(fd.get(), size - 4, "tail");
  }
  const auto first = fetch("first");
  EXPECT_EQ(first.files, 1u);
  EXPECT_EQ(first.bytes, size);
  const auto arrived = dir / "host/dist/image";
  ASSERT_EQ(fs::file_size(arrived), size);
  const auto fd = open_file(arrived, O_RDONLY);
  const auto read_at = [&](std::uint64_t at, std::size_t count) {
    std::string text(count, '?');
    EXPECT_EQ(::pread(fd.get(), text.data(), count, static_cast<off_t>(at)), static_cast<ssize_t>(count));
    return text;
  };
  EXPECT_EQ(read_at(0, 5), std::string("head\0", 5));
  EXPECT_EQ(read_at((border >> 1) - 4, 8), std::string("\0middle\0", 8));
  EXPECT_EQ(read_at(border - 4, 8), std::string("\0border\0", 8));
  EXPECT_EQ(read_at(size - 5, 5), std::string("\0tail", 5));
  struct stat status {};
  ASSERT_EQ(::fstat(fd.get(), &status), 0);
  EXPECT_LT(static_cast<std::uint64_t>(status.st_blocks) * 512, 64u << 20);

  const auto second = fetch("nothing_new");
  EXPECT_EQ(second.files, 0u);
  EXPECT_EQ(second.bytes, 0u);
  EXPECT_EQ(second.unchanged, 1u);

  request.limits.bytes = border;
  write(guest / "dist/image2", "x");
  fs::resize_file(guest / "dist/image2", size);
  try {
    fetch_artifacts(request, *std::make_unique<test::FakeStreams>(), no_progress(), {},
                    Deadline::after(std::chrono::seconds(60)));
    ADD_FAILURE() << "more than artifacts.limits.bytes";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("artifacts.limits.bytes"), std::string::npos) << error.what();
  }
  EXPECT_FALSE(fs::exists(dir / "host/dist/image2"));
}

}  // namespace
}  // namespace agentvm::sync
