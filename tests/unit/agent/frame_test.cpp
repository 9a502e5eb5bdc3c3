#include "guest/protocol/frame.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/base64.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::guest {
namespace {

using test::error_of;

TEST(Frame, HasTheDocumentedLayout) {
  const auto bytes = encode({FrameType::input, frame_flag_end, 0x01020304, "xy"});
  EXPECT_EQ(bytes, std::string("AVM1\x04\x01\x00\x00\x04\x03\x02\x01\x02\x00\x00\x00xy", 18));
}

TEST(Frame, SurvivesEveryCutOfTheStream) {
  const auto bytes =
      encode({FrameType::request, 0, 7, "{}"}) + encode({FrameType::output, 0, 8, std::string("\0A\xFF", 3)});
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    FrameParser parser(FrameParser::Garbage::fail);
    std::vector<Frame> frames;
    for (const auto& part : {bytes.substr(0, cut), bytes.substr(cut)}) {
      parser.feed(part);
      while (auto frame = parser.next()) frames.push_back(*frame);
    }
    ASSERT_EQ(frames.size(), 2U) << cut;
    EXPECT_EQ(frames[0].payload, "{}");
    EXPECT_EQ(frames[1].id, 8U);
    EXPECT_EQ(frames[1].payload, std::string("\0A\xFF", 3));
    EXPECT_FALSE(parser.mid_frame());
  }
}

TEST(Frame, RefusesAPayloadAboveTheLimit) {
  EXPECT_NO_THROW(encode({FrameType::output, 0, 1, std::string(frame_payload_limit_bytes, 'x')}));
  EXPECT_EQ(error_of([] {
              encode({FrameType::output, 0, 1, std::string(frame_payload_limit_bytes + 1, 'x')});
            })->code(),
            ErrorCode::usage);
}

struct BadHeader {
  const char* name;
  std::size_t at;
  char value;
};
class FrameHeaderTest : public testing::TestWithParam<BadHeader> {};

TEST_P(FrameHeaderTest, IsRefusedForGoodOrSkipped) {
  const auto good = encode({FrameType::request, 0, 3, "ok"});
  auto bad = good;
  bad[GetParam().at] = GetParam().value;
  FrameParser strict(FrameParser::Garbage::fail);
  strict.feed(bad);
  EXPECT_TRUE(error_of([&] { strict.next(); }));
  strict.feed(good);
  EXPECT_TRUE(error_of([&] { strict.next(); })) << "a stream that lied once is not believed again";
  EXPECT_EQ(strict.buffered_bytes(), 0U);

  FrameParser lenient(FrameParser::Garbage::skip);
  lenient.feed(bad + good);
  const auto frame = lenient.next();
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->payload, "ok");
  EXPECT_EQ(lenient.skipped_bytes(), bad.size());
}
INSTANTIATE_TEST_SUITE_P(All, FrameHeaderTest,
                         testing::Values(BadHeader{"magic", 0, 'B'}, BadHeader{"version", 3, '2'},
                                         BadHeader{"type_zero", 4, 0}, BadHeader{"type_unknown", 4, 9},
                                         BadHeader{"flags", 5, 2}, BadHeader{"reserved", 6, 1},
                                         BadHeader{"reserved_high", 7, 1}, BadHeader{"length", 14, 5},
                                         BadHeader{"length_huge", 15, 0x7F}),
                         [](const auto& row) { return row.param.name; });

TEST(FrameParser, KeepsNoMoreThanWhatArrived) {
  FrameParser parser(FrameParser::Garbage::skip);
  const auto header =
      encode({FrameType::output, 0, 1, std::string(frame_payload_limit_bytes, 'x')}).substr(0, frame_header_bytes);
  parser.feed(header);
  EXPECT_FALSE(parser.next());
  EXPECT_EQ(parser.buffered_bytes(), frame_header_bytes) << "a claimed length reserves nothing";
  FrameParser garbage(FrameParser::Garbage::skip);
  for (int i = 0; i < 1000; ++i) {
    garbage.feed(std::string(4096, 'x'));
    EXPECT_FALSE(garbage.next());
  }
  EXPECT_EQ(garbage.buffered_bytes(), 0U);
}

TEST(Base64, RoundTripsAndIsStrict) {
  for (std::size_t size = 0; size < 70; ++size) {
    std::string bytes;
    for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(i * 37 + size);
    EXPECT_EQ(base64_decode(base64_encode(bytes)), bytes);
  }
  EXPECT_EQ(base64_encode("ma"), "bWE=");
  for (const auto* bad : {"b", "bWE", "bW==x", "bWF=", "bR==", "b===", "====", "bW\nE", "=WEx", "bWE=bWE="})
    EXPECT_TRUE(error_of([&] { base64_decode(bad); })) << bad;
}

}  // namespace
}  // namespace agentvm::guest
