#include "cli/manager/ops/recording_files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest/protocol/recording.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::manager {
namespace {

using test::error_of;
using testing::HasSubstr;

constexpr std::int64_t now_ms = 1'764'433'000'000;

std::string name_of(int number) {
  return fmt::format("{:016}.cast", number);
}

std::string piece(const std::string& name, std::uint64_t offset, const std::string& bytes) {
  return fmt::format("{} {} {}\n{}", name, offset, bytes.size(), bytes);
}

std::size_t files(const fs::path& folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) ++count;
  return count;
}

TEST(RecordingFiles, GoOnWhereTheyEnd) {
  const test::TemporaryFolder folder;
  const auto copy = folder / "copy";
  EXPECT_EQ(recording_end(copy).segment, "");
  EXPECT_FALSE(add_to_recording(copy, "", now_ms));
  EXPECT_TRUE(add_to_recording(copy, piece(name_of(1), 0, "abc") + piece(name_of(2), 0, "d"), now_ms));
  EXPECT_EQ(recording_end(copy).segment, name_of(2));
  EXPECT_TRUE(add_to_recording(copy, piece(name_of(2), 1, "ef"), now_ms));
  EXPECT_EQ(recording_end(copy).size_bytes, 3u);
  EXPECT_EQ(read_file(copy / name_of(2)), "def");
}

TEST(RecordingFiles, AreBoundedWhateverAGuestSends) {
  const test::TemporaryFolder folder;
  const std::string megabyte(1u << 20, 'x');
  for (int i = 1; i < 100; ++i) add_to_recording(folder.path(), piece(name_of(i), 0, megabyte), now_ms);
  EXPECT_EQ(files(folder.path()), guest::recording_segments);
  EXPECT_EQ(recording_end(folder.path()).segment, name_of(99));
  const auto error = error_of([&] { add_to_recording(folder.path(), piece(name_of(99), 1u << 20, megabyte), now_ms); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), HasSubstr("too large"));
}

TEST(RecordingFiles, RefuseWhatIsNoAnswer) {
  const test::TemporaryFolder folder;
  add_to_recording(folder.path(), piece(name_of(5), 0, "abc"), now_ms);
  std::vector<std::string> answers{piece(name_of(4), 0, "x"),                  // older
                                   piece(name_of(5), 2, "x"),                  // written over
                                   piece(name_of(5), 4, "x"),                  // a gap
                                   piece(name_of(6), 1, "x"),                  // another one
                                   piece("../../../../evil.cast", 0, "x"),     //
                                   piece("000000000000000/.cast", 0, "x"),     //
                                   piece(name_of(6) + "x", 0, "x"),            //
                                   name_of(6) + " 0 5\nabc",                   // fewer bytes
                                   name_of(6) + " 0 99999999999999999999\nx",  //
                                   name_of(6) + " -1 1\nx",                    //
                                   name_of(6) + " 0\nx",                       //
                                   "noise"};
  answers.emplace_back(1000, '0');
  for (const auto& answer : answers) {
    EXPECT_TRUE(error_of([&] { add_to_recording(folder.path(), answer, now_ms); })) << answer;
    EXPECT_EQ(files(folder.path()), 1u) << answer;
  }
  EXPECT_EQ(read_file(folder / name_of(5)), "abc");
}

TEST(RecordingFiles, ASegmentOfTheFutureDoesNotEndThem) {
  const test::TemporaryFolder folder;
  const auto future = "9999999999999999.cast";
  EXPECT_TRUE(add_to_recording(folder.path(), piece(name_of(1), 0, "abc") + piece(future, 0, "x"), now_ms));
  EXPECT_EQ(recording_end(folder.path()).segment, name_of(1));
  EXPECT_TRUE(add_to_recording(folder.path(), piece(name_of(2), 0, "d") + piece(future, 0, "x"), now_ms));
}

}  // namespace
}  // namespace agentvm::manager
