#include <fcntl.h>
#include <gmock/gmock.h>

#include "cli/wire/lines.hpp"
#include "cli/wire/messages.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::wire {
namespace {

using testing::HasSubstr;

std::vector<std::string> drain(LineBuffer& buffer) {
  std::vector<std::string> lines;
  while (auto line = buffer.next()) lines.push_back(*line);
  return lines;
}

TEST(Lines, AreTheSameHoweverTheBytesArrive) {
  const std::string stream = "one\n\nthree \xff\nfour";
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    LineBuffer buffer(64);
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      buffer.append(std::string_view(stream).substr(at, piece));
      for (auto& line : drain(buffer)) lines.push_back(std::move(line));
    }
    EXPECT_EQ(lines, (std::vector<std::string>{"one", "", "three \xff"})) << piece;
    EXPECT_EQ(buffer.pending_bytes(), 4u);
  }
}

TEST(Lines, LimitCountsTheNewlineAndHoldsForUnfinishedLines) {
  LineBuffer fits(8);
  fits.append("1234567\n");
  EXPECT_EQ(fits.next(), "1234567");
  LineBuffer complete(8);
  complete.append("12345678\n");
  EXPECT_TRUE(test::error_of([&] { complete.next(); }));
  LineBuffer open(8);
  open.append("12345678");
  EXPECT_TRUE(test::error_of([&] { open.next(); }));
  LineBuffer nul(8);
  nul.append(std::string_view("a\0b\n", 4));
  EXPECT_TRUE(test::error_of([&] { nul.next(); }));
}

TEST(Lines, ManySmallOnesDoNotPileUp) {
  LineBuffer buffer(64);
  for (int i = 0; i < 100000; ++i) {
    buffer.append("0123456789\n01234");
    ASSERT_EQ(buffer.next().value().size(), i == 0 ? 10u : 15u);
  }
  EXPECT_EQ(buffer.pending_bytes(), 5u);
}

TEST(Messages, HelloSurvivesTheWay) {
  const auto back = hello_from(parse_json(dump_json(to_json(Hello{"1.2.3", "abc", {"x"}, 42})), "test"));
  EXPECT_EQ(back.version, "1.2.3");
  EXPECT_EQ(back.build, "abc");
  EXPECT_EQ(back.features, std::vector<std::string>{"x"});
  EXPECT_EQ(back.pid, 42);
  for (const auto* text : {"{}", "[]", "7", R"({"hello":1})", R"({"hello":{"magic":"agent","version":"1"}})",
                           R"({"hello":{"magic":"agentvm"}})"})
    EXPECT_TRUE(test::error_of([&] { hello_from(Json::parse(text)); })) << text;
}

TEST(Messages, RequestsAreChecked) {
  const auto back = client_message_from(parse_json(dump_json(to_json(ClientMessage{7, "list", {{"a", 1}}})), "test"));
  EXPECT_EQ(back.id, 7u);
  EXPECT_EQ(back.method, "list");
  EXPECT_EQ(back.params, (Json{{"a", 1}}));
  EXPECT_TRUE(client_message_from(Json::parse(R"({"id":1,"method":"x"})")).params.is_object());
  const std::string long_name(200, 'm');
  for (const auto& text :
       {std::string("null"), std::string(R"({"method":"x"})"), std::string(R"({"id":0,"method":"x"})"),
        std::string(R"({"id":-1,"method":"x"})"), std::string(R"({"id":1.5,"method":"x"})"),
        std::string(R"({"id":"1","method":"x"})"), std::string(R"({"id":1})"),
        std::string(R"({"id":1,"method":"x","params":3})"), R"({"id":1,"method":")" + long_name + "\"}"})
    EXPECT_TRUE(test::error_of([&] { client_message_from(Json::parse(text)); })) << text;
}

TEST(Messages, EveryKindOfAnswerSurvivesTheWay) {
  using Kind = ServerMessage::Kind;
  const auto back = [](const Json& line) { return server_message_from(parse_json(dump_json(line), "test")); };
  const auto progress = back(progress_line(3, {"boot", "booting", 40}));
  EXPECT_EQ(progress.kind, Kind::progress);
  EXPECT_EQ(progress.id, 3u);
  EXPECT_EQ(progress.progress.step, "boot");
  EXPECT_EQ(progress.progress.percent, 40);
  EXPECT_EQ(back(warning_line(3, "careful")).text, "careful");
  EXPECT_EQ(back(streams_line(3, 2)).count, 2u);
  EXPECT_EQ(back(ended_line(3, {{"kind", "exited"}})).body["kind"], "exited");
  EXPECT_EQ(back(result_line(3, {{"schema", "x"}})).body["schema"], "x");
  EXPECT_EQ(back(result_line(3, nullptr)).kind, Kind::result);
  EXPECT_EQ(back(error_line(3, Error(ErrorCode::usage, "m"))).id, 3u);
  EXPECT_EQ(back(error_line(0, Error(ErrorCode::usage, "m"))).id, 0u);
  EXPECT_TRUE(test::error_of([&] { back({{"id", 1}, {"event", "surprise"}}); }));
}

TEST(Messages, ErrorsKeepCodeTextAndHint) {
  for (const auto code :
       {ErrorCode::not_found, ErrorCode::wrong_state, ErrorCode::operation_failed, ErrorCode::host_lacks,
        ErrorCode::cancelled, ErrorCode::decision_needed, ErrorCode::timed_out, ErrorCode::usage}) {
    Error error(code, "it broke", "mend it");
    error.while_doing("working");
    const auto back = error_from(to_json(error));
    EXPECT_EQ(back.code(), code);
    EXPECT_STREQ(back.what(), "working: it broke");
    EXPECT_EQ(back.hint(), "mend it");
  }
  EXPECT_STRNE(error_from(Json(3)).what(), "");
}

TEST(Messages, BuildIdentityTellsFilesApart) {
  test::TemporaryFolder folder;
  write_file_atomic(folder / "a", "x");
  write_file_atomic(folder / "b", "x");
  EXPECT_EQ(build_identity(folder / "a"), build_identity(folder / "a"));
  EXPECT_NE(build_identity(folder / "a"), build_identity(folder / "b"));
  EXPECT_EQ(build_identity(folder / "none"), "");
}

}  // namespace
}  // namespace agentvm::wire
