#include "guest/agent/recorder.hpp"

#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>

#include "guest/protocol/recording.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::guest::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names(const fs::path& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (is_recording_name(entry.path().filename().string())) found.push_back(entry.path().filename().string());
  std::sort(found.begin(), found.end());
  return found;
}

std::string all_of(const fs::path& folder) {
  std::string text;
  for (const auto& name : names(folder)) text += read_file(folder / name);
  return text;
}

std::string sent(const fs::path& folder, const std::string& name, std::uint64_t offset, std::size_t limit) {
  auto pipe = make_pipe();
  std::thread writer([&] {
    send_recording(folder, name, offset, limit, pipe.second.get());
    pipe.second.reset();
  });
  std::string text(8u << 20, '\0');
  std::size_t size = 0;
  while (const auto count = read_some(pipe.first.get(), text.data() + size, text.size() - size, Deadline::never()))
    size += count;
  writer.join();
  text.resize(size);
  return text;
}

TEST(Recorder, WritesAnAsciicast) {
  const test::TemporaryFolder folder;
  Recorder recorder(folder / "s");
  recorder.resize(100, 30, 1'764'433'000'123);
  recorder.resize(100, 30, 1'764'433'000'200);
  recorder.print("hello\x1b[0m\r\n", 1'764'433'000'373);
  recorder.print("back in time", 5);
  EXPECT_THAT(names(folder / "s"), ElementsAre("0001764433000123.cast"));
  EXPECT_EQ(all_of(folder / "s"),
            "{\"version\":2,\"width\":100,\"height\":30,\"timestamp\":1764433000}\n[0.0,\"r\",\"100x30\"]\n"
            "[0.25,\"o\",\"hello\\u001b[0m\\r\\n\"]\n[0.25,\"o\",\"back in time\"]\n");
}

TEST(Recorder, CharactersThatAreCutWait) {
  const test::TemporaryFolder folder;
  Recorder recorder(folder / "s");
  for (const char* piece : {"\xe2", "\x82", "\xac\xf0\x9f", "\x98\x80", "\xff\xe2"}) recorder.print(piece, 1000);
  recorder.print("(", 1000);
  const auto data = all_of(folder / "s");
  EXPECT_THAT(data, HasSubstr("\"o\",\"\xe2\x82\xac\"]"));
  EXPECT_THAT(data, HasSubstr("\"o\",\"\xf0\x9f\x98\x80\"]"));
  EXPECT_THAT(data, HasSubstr("\"o\",\"\xef\xbf\xbd\"]"));
  EXPECT_THAT(data, HasSubstr("\"o\",\"\xef\xbf\xbd(\"]"));
}

TEST(Recorder, KeepsTheNewestSegmentsAndNoMore) {
  const test::TemporaryFolder folder;
  Recorder recorder(folder / "s");
  const std::string flood(300'000, '\x01');  // six bytes each, in JSON
  for (int i = 0; i < 60; ++i) recorder.print(flood, 1000);
  recorder.print("the end", 1000);
  const auto kept = names(folder / "s");
  EXPECT_EQ(kept.size(), recording_segments);
  for (const auto& name : kept)
    EXPECT_LE(fs::file_size(folder / "s" / name), recording_segment_bytes + recording_line_limit_bytes) << name;
  EXPECT_THAT(read_file(folder / "s" / kept.back()), HasSubstr("the end"));
}

TEST(Recorder, AnotherOneGoesOnBehindTheLast) {
  const test::TemporaryFolder folder;
  Recorder(folder / "s").print("one", 5000);
  Recorder(folder / "s").print("two", 4000);  // the clock was set back
  EXPECT_THAT(names(folder / "s"), ElementsAre("0000000000005000.cast", "0000000000005001.cast"));
}

TEST(Recorder, ASegmentOfTheFutureGoes) {
  const test::TemporaryFolder folder;
  fs::create_directories(folder / "s");
  write_file_atomic(folder / "s/9999999999999999.cast", "forged");
  Recorder(folder / "s").print("one", 5000);
  EXPECT_THAT(names(folder / "s"), ElementsAre("0000000000005000.cast"));
}

TEST(Recorder, AFullDiskOrAFolderThatIsGoneLosesTextAndNothingElse) {
  const test::TemporaryFolder folder;
  Recorder recorder(folder / "s");
  remove_tree(folder / "s");
  recorder.print("lost", 1000);
  fs::create_directories(folder / "s");
  recorder.print("kept", 1000);
  EXPECT_THAT(all_of(folder / "s"), HasSubstr("kept"));
}

TEST(Recorder, SendsWhatIsNew) {
  const test::TemporaryFolder folder;
  const auto write = [&](const char* name, const char* text) { write_file_atomic(folder / name, text); };
  write("0000000000000001.cast", "abc");
  write("0000000000000002.cast", "defgh");
  write("lock", "no");
  fs::create_symlink("/etc/passwd", folder / "0000000000000003.cast");
  EXPECT_EQ(sent(folder.path(), "", 0, 100), "0000000000000001.cast 0 3\nabc0000000000000002.cast 0 5\ndefgh");
  EXPECT_EQ(sent(folder.path(), "0000000000000001.cast", 3, 2), "0000000000000002.cast 0 2\nde");
  EXPECT_EQ(sent(folder.path(), "0000000000000002.cast", 4, 100), "0000000000000002.cast 4 1\nh");
  EXPECT_EQ(sent(folder.path(), "0000000000000002.cast", 5, 100), "");
  EXPECT_EQ(sent(folder / "absent", "", 0, 100), "");
}

TEST(Recorder, RecordsUntilItsInputEndsAndAsksTheTerminalForItsSize) {
  const test::TemporaryFolder folder;
  int controller = -1, terminal = -1;
  char path[64];
  winsize size{40, 132, 0, 0};
  ASSERT_EQ(::openpty(&controller, &terminal, path, nullptr, &size), 0);
  const UniqueFd first(controller), second(terminal);
  auto pipe = make_pipe();
  int status = -1;
  std::thread recording([&] { status = record_terminal(folder / "s", path, pipe.first.get()); });
  write_all(pipe.second.get(), "printed", Deadline::never());
  pipe.second.reset();
  recording.join();
  EXPECT_EQ(status, 0);
  EXPECT_THAT(all_of(folder / "s"), HasSubstr("\"r\",\"132x40\""));
  EXPECT_THAT(all_of(folder / "s"), HasSubstr("printed"));
}

}  // namespace
}  // namespace agentvm::guest::agent
