// The corpus of messages that two parsers have read differently somewhere: each is refused, or passes with one meaning.
#include <gtest/gtest.h>

#include "proxy/http/body.hpp"
#include "proxy/http/rewrite.hpp"
#include "tests/support/wire_cases.hpp"

namespace agentvm::http {
namespace {

/// "accept N bytes", "body STATUS": what the body came to.
std::string body_of(std::string_view rest, const Framing& framing, int broken_status) {
  BodyReader reader(framing);
  std::size_t bytes = 0;
  while (!reader.done() && !reader.broken()) {
    const auto [used, data] = reader.take(rest);
    if (used == 0 && !reader.done()) return "incomplete";
    bytes += data.size();
    rest.remove_prefix(used);
  }
  if (reader.broken()) return "body " + std::to_string(broken_status);
  return "accept " + std::to_string(bytes) + " bytes";
}

std::string outcome(const test::WireCase& wire) {
  const std::string_view bytes = wire.bytes;
  if (wire.side == "request") {
    const auto parsed = parse_request(bytes);
    if (parsed.fault) return std::to_string(parsed.fault->status);
    if (!parsed.head) return "incomplete";
    const auto& head = *parsed.head;
    if (wire.expect == "accept no upgrade") {
      const auto text = request_head(head, {});
      return !head.websocket && text.find("Upgrade") == text.npos && text.find("HTTP2") == text.npos ? wire.expect
                                                                                                     : "upgrade";
    }
    if (head.body.kind == Framing::Kind::none) return "accept no body";
    return body_of(bytes.substr(parsed.size), head.body, 400);
  }
  const auto parsed = parse_response(bytes, wire.side.substr(wire.side.find(' ') + 1));
  if (parsed.fault) return std::to_string(parsed.fault->status);
  if (!parsed.head) return "incomplete";
  if (parsed.head->body.kind == Framing::Kind::none) return "accept no body";
  return body_of(bytes.substr(parsed.size), parsed.head->body, 502);
}

TEST(Desync, EveryCaseEndsAsItsFileSays) {
  const auto cases = test::read_wire_cases(DESYNC_CASES);
  ASSERT_GE(cases.size(), 100u);
  for (const auto& wire : cases) {
    EXPECT_EQ(outcome(wire), wire.expect) << wire.name;
    EXPECT_FALSE(wire.reference.empty()) << wire.name;
  }
}

/// What arrives a byte at a time is judged as what arrives at once.
TEST(Desync, ArrivalMakesNoDifference) {
  for (const auto& wire : test::read_wire_cases(DESYNC_CASES)) {
    if (wire.side != "request") continue;
    const auto whole = parse_request(wire.bytes);
    std::size_t seen = 0;
    for (std::size_t size = 1; size <= wire.bytes.size(); ++size) {
      const auto parsed = parse_request(std::string_view(wire.bytes).substr(0, size), seen);
      if (parsed.incomplete()) {
        seen = size;
        continue;
      }
      ASSERT_EQ(parsed.head.has_value(), whole.head.has_value()) << wire.name;
      if (parsed.fault) {
        EXPECT_EQ(parsed.fault->status, whole.fault->status) << wire.name;
      }
      break;
    }
  }
}

}  // namespace
}  // namespace agentvm::http
