#include "proxy/egress/caps.hpp"

#include <gmock/gmock.h>

#include "proxy/egress/summary.hpp"

namespace agentvm::egress {
namespace {

using testing::ElementsAre;

constexpr std::int64_t noon = 1'800'000'000;
const HostPort api{"api.example.org", 443};

CapLedger ledger(const std::vector<std::string>& texts) {
  std::vector<Cap> caps;
  for (const auto& text : texts) caps.push_back(Cap::parse(text));
  return CapLedger(std::move(caps));
}

TEST(Cap, IsReadAsItIsWritten) {
  const auto cap = Cap::parse("*.example.org:8443 500k tokens/hour");
  EXPECT_EQ(cap.unit, Cap::Unit::tokens);
  EXPECT_EQ(cap.limit, 500'000u);
  EXPECT_EQ(cap.seconds, 3600);
  EXPECT_TRUE(cap.covers({"a.example.org", 8443}));
  EXPECT_FALSE(cap.covers({"a.example.org", 443}));
  EXPECT_EQ(Cap::parse("a.example 2G bytes/day").limit, 2ull << 30);
  EXPECT_EQ(Cap::parse("a.example 3M requests/minute").limit, 3'000'000u);
}

TEST(Cap, CountsEveryPortAndEndsTlsAtItsUsualOneAlone) {
  const auto cap = Cap::parse("a.example 1 requests/day"), bytes = Cap::parse("a.example 1 bytes/day");
  for (const std::uint16_t port : {80, 443, 8443}) EXPECT_TRUE(cap.covers({"a.example", port}));
  EXPECT_TRUE(cap.needs_tls({"a.example", 443}));
  EXPECT_FALSE(cap.needs_tls({"a.example", 8443}));
  EXPECT_FALSE(cap.needs_tls({"b.example", 443}));
  EXPECT_FALSE(bytes.needs_tls({"a.example", 443}));
}

TEST(CapLedger, HasRoomUntilTheLimitAndAgainASpanLater) {
  auto caps = ledger({"api.example.org 2 requests/minute"});
  EXPECT_FALSE(caps.reached(api, noon));
  caps.add(api, {.requests = 1}, noon);
  EXPECT_FALSE(caps.reached(api, noon + 10));
  caps.add(api, {.requests = 1}, noon + 10);
  const auto reached = caps.reached(api, noon + 20);
  ASSERT_TRUE(reached);
  EXPECT_EQ(reached->cap, "api.example.org 2 requests/minute");
  EXPECT_EQ(reached->seconds, 40);
  EXPECT_TRUE(caps.reached(api, noon + 59));
  EXPECT_FALSE(caps.reached(api, noon + 60));
  EXPECT_FALSE(caps.reached({"other.example", 443}, noon + 20));
}

TEST(CapLedger, TheCapThatOpensLastIsTold) {
  auto caps = ledger({"api.example.org 1 requests/minute", "*.example.org 1 requests/hour",
                      "api.example.org 1 requests/day", "api.example.org 5 bytes/day"});
  caps.add(api, {.requests = 1, .bytes = 4}, noon);
  EXPECT_EQ(caps.reached(api, noon)->cap, "api.example.org 1 requests/day");
  EXPECT_FALSE(caps.reached(api, noon, Cap::Unit::bytes));
  caps.add(api, {.bytes = 1}, noon);
  EXPECT_EQ(caps.reached(api, noon, Cap::Unit::bytes)->cap, "api.example.org 5 bytes/day");
  EXPECT_FALSE(caps.reached(api, noon, Cap::Unit::tokens));
  EXPECT_TRUE(caps.counts(api, Cap::Unit::bytes));
  EXPECT_FALSE(caps.counts(api, Cap::Unit::tokens));
}

TEST(CapLedger, AClockThatIsSetBackOpensNothing) {
  auto caps = ledger({"api.example.org 2 requests/minute"});
  caps.add(api, {.requests = 1}, noon);
  caps.add(api, {.requests = 1}, noon - 3600);
  EXPECT_TRUE(caps.reached(api, noon));
}

TEST(CapLedger, KnowsWhatTheJournalTells) {
  auto caps =
      ledger({"api.example.org 10 requests/day", "api.example.org 1k tokens/day", "api.example.org 1M bytes/day"});
  Decision decision{.time = noon, .host = "API.example.org", .port = 443, .kind = Decision::Kind::allowed};
  decision.bytes_up = 10;
  decision.bytes_down = 20;
  decision.requests = 3;
  decision.tokens = 40;
  using Event = JournalEntry::Event;
  add_history(caps,
              {{Event::open, decision}, {Event::end, decision}, {Event::held, decision}, {Event::whole, decision}});
  std::vector<std::uint64_t> used;
  for (const auto& state : caps.states(noon)) used.push_back(state.used);
  EXPECT_THAT(used, ElementsAre(6, 80, 60));
  used.clear();
  for (const auto& state : caps.states(noon + 25 * 3600)) used.push_back(state.used);
  EXPECT_THAT(used, ElementsAre(0, 0, 0));
}

std::uint64_t metered(std::string_view answer, std::size_t piece, bool whole = true) {
  TokenMeter meter;
  for (std::size_t at = 0; at < answer.size(); at += piece) meter.read(answer.substr(at, piece));
  if (whole) meter.end();
  return meter.tokens();
}

TEST(TokenMeter, ReadsTheThreeApisInAnyPieces) {
  const std::string anthropic =
      R"({"id":"m","content":[{"type":"text","text":"\"input_tokens\": 999999"}],"usage":{)"
      R"("input_tokens":25,"cache_creation_input_tokens": 100,"cache_read_input_tokens":1000,)"
      R"("output_tokens":17,"service_tier":"standard"}})";
  const std::string openai = R"({"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,)"
                             R"("completion_tokens_details":{"reasoning_tokens":7}}})";
  const std::string responses =
      R"({"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":30},"output_tokens":87,"total_tokens":123}})";
  const std::string gemini =
      R"([{"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":3,"totalTokenCount":7}},)"
      "\n"
      R"({"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":50,"totalTokenCount":99}}])";
  for (const std::size_t piece : {1, 2, 7, 64, 100'000}) {
    EXPECT_EQ(metered(anthropic, piece), 1142u) << piece;
    EXPECT_EQ(metered(openai, piece), 21u) << piece;
    EXPECT_EQ(metered(responses, piece), 123u) << piece;
    EXPECT_EQ(metered(gemini, piece), 99u) << piece;
  }
}

std::string stream(int events, bool whole) {
  std::string text =
      "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":50,\"output_tokens\":1}}}\n\n";
  for (int i = 0; i < events; ++i) text += "event: content_block_delta\ndata: {\"delta\":{\"text\":\"a\"}}\n\n";
  if (whole) text += "event: message_delta\ndata: {\"usage\":{\"output_tokens\":15}}\n\n";
  return text;
}

TEST(TokenMeter, ReadsStreamsWhoseLastWordCounts) {
  for (const std::size_t piece : {1, 13, 4096}) EXPECT_EQ(metered(stream(10, true), piece), 65u) << piece;
}

TEST(TokenMeter, EstimatesWhatIsNotReported) {
  EXPECT_EQ(metered(stream(40, false), 11, false), 50u + 41u);
  EXPECT_EQ(metered("", 1), 0u);
  EXPECT_EQ(metered(std::string(400, 'x'), 33), 100u);
  EXPECT_EQ(metered("\ndata: a\n\ndata: b\n\ndata: c\n", 3), 3u);
}

TEST(TokenMeter, NumbersThatAreNoneAreNotRead) {
  const std::string text = R"({"output_tokens":12345678901234567890123,"input_tokens":"7","prompt_tokens":-3})";
  EXPECT_EQ(metered(text, 5), text.size() / 4);
}

}  // namespace
}  // namespace agentvm::egress
