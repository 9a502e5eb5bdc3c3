#include "proxy/http/body.hpp"

#include <gtest/gtest.h>

namespace agentvm::http {
namespace {

using Kind = Framing::Kind;

struct Read {
  std::string data, rest;
  bool done, broken;
  Fields trailers;
};
/// Feeds `text` in pieces of `step` bytes.
Read read_all(Framing framing, std::string_view text, std::size_t step) {
  BodyReader reader(framing);
  std::string data, waiting;
  std::size_t fed = 0;
  while (fed < text.size() && !reader.done() && !reader.broken()) {
    const auto size = std::min(step, text.size() - fed);
    waiting += text.substr(fed, size);
    fed += size;
    for (;;) {
      const auto [used, piece] = reader.take(waiting);
      data += piece;
      waiting.erase(0, used);
      if (used == 0 || waiting.empty()) break;
    }
  }
  return {data, waiting + std::string(text.substr(fed)), reader.done(), reader.broken(), reader.trailers()};
}

TEST(Body, SizedEndsExactly) {
  for (const std::size_t step : {1u, 3u, 100u}) {
    const auto read = read_all({Kind::sized, 5}, "helloGET", step);
    EXPECT_EQ(read.data, "hello");
    EXPECT_EQ(read.rest, "GET");
    EXPECT_TRUE(read.done);
  }
  EXPECT_TRUE(BodyReader({Kind::sized, 0}).done());
  EXPECT_TRUE(BodyReader({Kind::none, 0}).done());
}

TEST(Body, ChunkedEndsExactly) {
  const std::string text = "5;a=b\r\nhello\r\n1\r\n \r\n00A\r\n0123456789\r\n0\r\nX-Sum: 7\r\nB:\r\n\r\nGET";
  for (const std::size_t step : {1u, 2u, 7u, 1000u}) {
    const auto read = read_all({Kind::chunked, 0}, text, step);
    EXPECT_EQ(read.data, "hello 0123456789");
    EXPECT_EQ(read.rest, "GET");
    EXPECT_TRUE(read.done);
    EXPECT_EQ(read.trailers, (Fields{{"X-Sum", "7"}, {"B", ""}}));
  }
}

TEST(Body, TheEndOfTheStreamIsAnEndOnlyWhereNothingElseIs) {
  BodyReader open({Kind::until_close, 0});
  EXPECT_EQ(open.take("abc").data, "abc");
  EXPECT_FALSE(open.done());
  EXPECT_TRUE(open.end_of_stream());
  EXPECT_TRUE(open.done());
  BodyReader sized({Kind::sized, 5});
  sized.take("abc");
  EXPECT_FALSE(sized.end_of_stream());
  BodyReader chunked({Kind::chunked, 0});
  chunked.take("3\r\nabc\r\n0\r\n");
  EXPECT_FALSE(chunked.end_of_stream());
}

TEST(Body, ExtensionsAndTrailersAreBounded) {
  std::string many;
  for (int i = 0; i < 2000; ++i) many += "1;" + std::string(10, 'x') + "\r\na\r\n";
  EXPECT_TRUE(read_all({Kind::chunked, 0}, many, 4096).broken);
  const auto long_trailer = "0\r\nA: " + std::string(trailer_limit_bytes, 'x');
  EXPECT_TRUE(read_all({Kind::chunked, 0}, long_trailer, 4096).broken);
  std::string trailers = "0\r\n";
  for (std::size_t i = 0; i <= field_limit; ++i) trailers += "A: b\r\n";
  EXPECT_TRUE(read_all({Kind::chunked, 0}, trailers + "\r\n", 4096).broken);
}

TEST(Body, ChunksAreWritten) {
  EXPECT_EQ(chunk_head(255), "ff\r\n");
  EXPECT_EQ(last_chunk({}), "0\r\n\r\n");
  EXPECT_EQ(last_chunk({{"A", "b"}}), "0\r\nA: b\r\n\r\n");
  const auto read = read_all({Kind::chunked, 0}, chunk_head(5) + "hello\r\n" + last_chunk({{"A", "b"}}), 1);
  EXPECT_EQ(read.data, "hello");
  EXPECT_TRUE(read.done);
}

}  // namespace
}  // namespace agentvm::http
