#include "proxy/egress/head.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace agentvm::egress {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string fault_of(const std::string& text) {
  const HeadResult result = parse_head(text);
  if (result.fault) return std::to_string(result.fault->status) + " " + result.fault->reason;
  return result.head ? "accepted" : "incomplete";
}

TEST(Head, ATunnel) {
  const HeadResult result =
      parse_head("CONNECT Example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nUser-Agent: npm\r\n\r\nTLS");
  ASSERT_TRUE(result.head);
  EXPECT_TRUE(result.head->tunnel);
  EXPECT_EQ(result.head->target, (HostPort{"example.com", 443}));
  EXPECT_EQ(result.size,
            std::string("CONNECT Example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nUser-Agent: npm\r\n\r\n").size());
  EXPECT_EQ(fault_of("CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n"), "accepted");
  EXPECT_EQ(fault_of("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n"), "accepted");
}

TEST(Head, ARequestIsWrittenAnew) {
  const HeadResult result = parse_head(
      "GET http://Mirror.Test:8080?q=1 HTTP/1.1\r\nhOsT: mirror.test:8080\r\nUser-Agent:  apt \r\nConnection: "
      "X-Secret, keep-alive\r\n"
      "X-Secret: 1\r\nProxy-Authorization: Basic x\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nTE: trailers\r\nRange: "
      "bytes=1-\r\n\r\n");
  ASSERT_TRUE(result.head);
  EXPECT_EQ(result.head->serialise(),
            "GET /?q=1 HTTP/1.1\r\nHost: mirror.test:8080\r\nUser-Agent: apt\r\nRange: bytes=1-\r\nConnection: "
            "close\r\n\r\n");
}

TEST(Head, ConnectionCannotStripFramingOrHost) {
  const HeadResult result = parse_head(
      "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nConnection: content-length, "
      "host\r\n\r\nhello");
  ASSERT_TRUE(result.head);
  EXPECT_EQ(result.head->serialise(),
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
}

TEST(Head, IsIncompleteUntilTheEmptyLineAtEveryCut) {
  const std::string text = "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\nA: b\r\n\r\n";
  std::size_t seen = 0;
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_TRUE(parse_head(text.substr(0, size), seen).incomplete()) << size;
    seen = size;
  }
  EXPECT_TRUE(parse_head(text, seen).head);
}

TEST(Head, ShapesThatTwoParsersReadDifferentlyAreRefused) {
  const std::string start = "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n";
  const struct {
    std::string text, fault;
  } cases[] = {
      {start + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both Content-Length and Transfer-Encoding"},
      {start + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", "more than one content-length"},
      {start + "Content-Length: 5, 5\r\n\r\n", "Content-Length is malformed"},
      {start + "Content-Length: +5\r\n\r\n", "Content-Length is malformed"},
      {start + "Content-Length: -5\r\n\r\n", "Content-Length is malformed"},
      {start + "Content-Length: 0x5\r\n\r\n", "Content-Length is malformed"},
      {start + "Content-Length:\r\n\r\n", "Content-Length is malformed"},
      {start + "Content-Length: 99999999999999999999\r\n\r\n", "Content-Length is malformed"},
      {start + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "more than one transfer-encoding"},
      {start + "Transfer-Encoding: gzip, chunked\r\n\r\n", "501"},
      {start + "Transfer-Encoding: xchunked\r\n\r\n", "501"},
      {start + "Transfer-Encoding : chunked\r\n\r\n", "header name is malformed"},
      {start + "A: b\r\n c\r\n\r\n", "folded"},
      {start + "A: b\n\r\n", "without a carriage return"},
      {start + "A: b\rContent-Length: 5\r\n\r\n", "carriage return stands alone"},
      {start + std::string("A: b\0c\r\n\r\n", 10), "NUL"},
      {start + "A: b\x01\r\n\r\n", "control character"},
      {start + ": b\r\n\r\n", "header name is malformed"},
      {start + "no colon\r\n\r\n", "header name is malformed"},
      {start + "Host: a.test\r\n\r\n", "more than one host"},
      {"POST http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", "names another host"},
      {"POST http://a.test/ HTTP/1.1\r\nHost: a.test:81\r\n\r\n", "names another host"},
      {"POST http://a.test/ HTTP/1.1\r\n\r\n", "Host header is missing"},
      {"POST http://u:p@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "user name"},
      {"POST /x HTTP/1.1\r\nHost: a.test\r\n\r\n", "whole http:// address"},
      {"GET http://a.test/#x HTTP/1.1\r\nHost: a.test\r\n\r\n", "does not belong"},
      {"GET http://a.test/\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\n\r\n", "does not belong"},
      {"GET http://a.test/a b HTTP/1.1\r\nHost: a.test\r\n\r\n", "does not belong"},
      {"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "501"},
      {"GET http://a.test/ HTTP/2.0\r\nHost: a.test\r\n\r\n", "505"},
      {"GET http://a.test:/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "malformed port"},
      {"GET http://a.test:99999/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "malformed port"},
      {"GET http:///x HTTP/1.1\r\nHost: a.test\r\n\r\n", "no host"},
      {"CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", "no port"},
      {"CONNECT a.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n", "names another host"},
      {"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 1\r\n\r\n", "no body"},
      {"CONNECT [::1:443 HTTP/1.1\r\n\r\n", "malformed"},
      {"CONNECT [x]:443 HTTP/1.1\r\n\r\n", "malformed address"},
      {"TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "501"},
      {"POST http://a.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0 has no"},
      {"G@T http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "method is malformed"},
      {"\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "empty"},
      {"GET\r\n\r\n", "request line is malformed"},
      {" GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "malformed"},
  };
  for (const auto& one : cases) EXPECT_THAT(fault_of(one.text), HasSubstr(one.fault)) << one.text;
}

TEST(Head, HasLimits) {
  std::string many = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n";
  for (std::size_t i = 1; i < header_limit; ++i) many += "A: b\r\n";
  EXPECT_EQ(fault_of(many + "\r\n"), "accepted");
  EXPECT_THAT(fault_of(many + "A: b\r\n\r\n"), HasSubstr("431"));
  EXPECT_EQ(fault_of("GET http://a.test/" + std::string(head_limit_bytes - 1000, 'x')), "incomplete");
  EXPECT_THAT(fault_of("GET http://a.test/" + std::string(head_limit_bytes, 'x')), HasSubstr("431"));
}

// Feeds the text whole and byte by byte: the same must come out.
std::string decoded(const std::string& text, std::size_t* left = nullptr) {
  ChunkDecoder whole, slow;
  std::string out, slow_out;
  const std::size_t used = whole.feed(text, out);
  for (std::size_t i = 0; i < text.size() && slow.ok() && !slow.done(); ++i)
    slow.feed(std::string_view(text).substr(i, 1), slow_out);
  EXPECT_EQ(out, slow_out);
  EXPECT_EQ(whole.ok(), slow.ok());
  EXPECT_EQ(whole.done(), slow.done());
  if (left != nullptr) *left = text.size() - used;
  return !whole.ok() ? "broken" : whole.done() ? out : out + "...";
}

TEST(Chunks, AreUndone) {
  std::size_t left = 0;
  EXPECT_EQ(decoded("5\r\nhello\r\nA;ext=\"1\"\r\n0123456789\r\n0\r\n\r\nGET /next", &left), "hello0123456789");
  EXPECT_EQ(left, 9u);
  EXPECT_EQ(decoded("0\r\nTrailer: x\r\nB: c\r\n\r\n", &left), "");
  EXPECT_EQ(left, 0u);
  EXPECT_EQ(decoded("3\r\nab"), "ab...");
}

TEST(Chunks, BrokenCodingIsRefused) {
  for (const std::string text :
       {"\r\n", "g\r\n", "-1\r\n", " 5\r\n", "5 \r\n", "0x5\r\n", "5\nhello", "5\r\nhelloX\r\n", "5\r\nhello\n", "5\rx",
        "+5\r\n", "FFFFFFFFFFFFFFFF\r\n", "5;a\nb\r\n", "0\r\nX\nY\r\n\r\n", "0\r\n\rX"})
    EXPECT_EQ(decoded(text), "broken") << text;
  EXPECT_EQ(decoded("5;" + std::string(5000, 'x') + "\r\n"), "broken");
  EXPECT_EQ(decoded("0\r\nA: " + std::string(5000, 'x')), "broken");
}

}  // namespace
}  // namespace agentvm::egress
