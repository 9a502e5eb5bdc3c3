#include "proxy/http/head.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proxy/http/rewrite.hpp"

namespace agentvm::http {
namespace {

using testing::HasSubstr;
using testing::Not;
using Kind = Framing::Kind;

Request request(const std::string& text) {
  auto parsed = parse_request(text);
  EXPECT_TRUE(parsed.head) << (parsed.fault ? parsed.fault->reason : "incomplete");
  return parsed.head.value_or(Request{});
}
Response response(const std::string& text, std::string_view method = "GET") {
  auto parsed = parse_response(text, method);
  EXPECT_TRUE(parsed.head) << (parsed.fault ? parsed.fault->reason : "incomplete");
  return parsed.head.value_or(Response{});
}

TEST(Request, IsWrittenAnew) {
  const auto head = request(
      "PUT /a?b=%20 HTTP/1.1\r\nhOsT: Box.Localhost:8080\r\nAccept:  */* \r\nConnection: X-Secret, keep-alive\r\n"
      "X-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nCookie: a=b; c=\"d\"\r\nContent-Length: 007\r\n"
      "X-Forwarded-For: 10.9.8.7\r\nx_forwarded_host: evil\r\nForwarded: for=1\r\nX-Real-IP: 1\r\n\r\n");
  EXPECT_EQ(request_head(head, {}),
            "PUT /a?b=%20 HTTP/1.1\r\nHost: box.localhost:8080\r\nAccept: */*\r\nCookie: a=b; c=\"d\"\r\n"
            "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: box.localhost:8080\r\nX-Forwarded-Proto: http\r\n"
            "Content-Length: 7\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_TRUE(head.keep_alive);
}

TEST(Request, KeepAliveFollowsVersionAndConnection) {
  const std::string host = "Host: a.localhost\r\n";
  EXPECT_TRUE(request("GET / HTTP/1.1\r\n" + host + "\r\n").keep_alive);
  EXPECT_FALSE(request("GET / HTTP/1.1\r\n" + host + "Connection: Close\r\n\r\n").keep_alive);
  EXPECT_FALSE(request("GET / HTTP/1.0\r\n" + host + "\r\n").keep_alive);
  EXPECT_TRUE(request("GET / HTTP/1.0\r\n" + host + "Connection: keep-alive\r\n\r\n").keep_alive);
  EXPECT_FALSE(request("GET / HTTP/1.1\r\n" + host + "Connection: keep-alive, close\r\n\r\n").keep_alive);
}

TEST(Request, AsksForWebsocket) {
  const auto head = request(
      "GET /hmr HTTP/1.1\r\nHost: a.localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
      "Origin: http://a.localhost\r\nSec-WebSocket-Key: x\r\n\r\n");
  EXPECT_TRUE(head.websocket);
  EXPECT_EQ(head.origin, "http://a.localhost");
  EXPECT_THAT(request_head(head, {}), HasSubstr("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
  EXPECT_THAT(request_head(head, {}), HasSubstr("Sec-WebSocket-Key: x\r\n"));
  // The option alone, the header alone, another method, an old version: no upgrade, and still requests.
  const std::string host = " HTTP/1.1\r\nHost: a.localhost\r\n";
  EXPECT_FALSE(request("GET /" + host + "Connection: Upgrade\r\n\r\n").websocket);
  EXPECT_FALSE(request("GET /" + host + "Upgrade: websocket\r\n\r\n").websocket);
  EXPECT_FALSE(request("POST /" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n").websocket);
  EXPECT_FALSE(request("GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").websocket);
}

TEST(Request, ExpectsContinueOnlyWithABody) {
  const std::string start = "POST / HTTP/1.1\r\nHost: a.localhost\r\nExpect: 100-Continue\r\n";
  EXPECT_TRUE(request(start + "Content-Length: 4\r\n\r\n").expects_continue);
  EXPECT_TRUE(request(start + "Transfer-Encoding: chunked\r\n\r\n").expects_continue);
  EXPECT_FALSE(request(start + "\r\n").expects_continue);
  EXPECT_THAT(request_head(request(start + "Content-Length: 4\r\n\r\n"), {}), HasSubstr("Expect: 100-continue\r\n"));
}

TEST(Request, LimitsOfAHead) {
  const std::string start = "GET / HTTP/1.1\r\nHost: a.localhost\r\n";
  std::string many = start;
  for (std::size_t i = 1; i < field_limit; ++i) many += "A: b\r\n";
  EXPECT_TRUE(parse_request(many + "\r\n").head);
  EXPECT_EQ(parse_request(many + "A: b\r\n\r\n").fault->status, 431);
  const std::string large = start + "A: " + std::string(head_limit_bytes, 'x');
  EXPECT_EQ(parse_request(large).fault->status, 431);
  EXPECT_TRUE(parse_request(large.substr(0, head_limit_bytes - 1)).incomplete());
  // The limit is on the head, not on what came along with it.
  EXPECT_TRUE(parse_request(start + "\r\n" + std::string(2 * head_limit_bytes, 'x')).head);
}

TEST(Response, BodyEnds) {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  EXPECT_EQ(response(ok + "Content-Length: 5\r\n\r\n").body, (Framing{Kind::sized, 5}));
  EXPECT_EQ(response(ok + "Transfer-Encoding: Chunked\r\n\r\n").body.kind, Kind::chunked);
  EXPECT_EQ(response(ok + "\r\n").body.kind, Kind::until_close);
  EXPECT_FALSE(response(ok + "\r\n").keep_alive);
  EXPECT_EQ(response(ok + "Content-Length: 5\r\n\r\n", "HEAD").body.kind, Kind::none);
  EXPECT_EQ(response("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").body.kind, Kind::none);
  EXPECT_EQ(response("HTTP/1.1 304 \r\n\r\n").body.kind, Kind::none);
  EXPECT_TRUE(response("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").interim());
}

TEST(Response, IsWrittenAnew) {
  const auto head = response(
      "HTTP/1.0 200 Fine\r\nServer: x\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nSet-Cookie: a=b\r\n"
      "Set-Cookie: c=d\r\n\r\n");
  const auto framing = framing_for_client(head, 1);
  EXPECT_EQ(framing.kind, Kind::chunked);  // so that the client's connection can go on
  EXPECT_EQ(response_head(head, framing, true),
            "HTTP/1.1 200 Fine\r\nServer: x\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nTransfer-Encoding: chunked\r\n"
            "Connection: keep-alive\r\n\r\n");
  EXPECT_EQ(framing_for_client(head, 0).kind, Kind::until_close);
  EXPECT_EQ(response_head(head, {Kind::until_close, 0}, false),
            "HTTP/1.1 200 Fine\r\nServer: x\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nConnection: close\r\n\r\n");
  const auto to_head = response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD");
  EXPECT_THAT(response_head(to_head, to_head.body, true), HasSubstr("Content-Length: 5\r\n"));
  const auto hint = response("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n");
  EXPECT_EQ(response_head(hint, hint.body, true), "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
}

TEST(Response, SwitchesToWebsocketAndNothingElse) {
  const auto head = response(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: "
      "x\r\n\r\n");
  EXPECT_TRUE(head.websocket);
  EXPECT_EQ(response_head(head, head.body, true),
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\n\r\n");
  EXPECT_FALSE(response("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n").websocket);
  EXPECT_FALSE(response("HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").websocket);
}

TEST(Heads, AreIncompleteUntilTheEmptyLineAtEveryCut) {
  const std::string text = "GET /x HTTP/1.1\r\nHost: a.localhost\r\nA: b\r\n\r\n";
  std::size_t seen = 0;
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_TRUE(parse_request(text.substr(0, size), seen).incomplete()) << size;
    seen = size;
  }
  const auto parsed = parse_request(text + "rest", seen);
  ASSERT_TRUE(parsed.head);
  EXPECT_EQ(parsed.size, text.size());
}

}  // namespace
}  // namespace agentvm::http
