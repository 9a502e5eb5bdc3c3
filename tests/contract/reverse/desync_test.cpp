// The desync corpus through the whole proxy, and what a hostile server may try with its answers.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/contract/reverse/fixture.hpp"
#include "tests/support/wire_cases.hpp"

namespace agentvm::proxy {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) text.replace(at, from.size(), to);
  return text;
}

/// One request, one meaning: a message of the corpus never becomes two, and a refused one never reaches the server.
TEST_F(ReverseTest, NoDesyncCasePassesAsTwo) {
  start();
  for (const auto& wire : test::read_wire_cases(DESYNC_CASES)) {
    if (wire.side != "request") continue;
    std::atomic<int> heads = 0;
    Server server([&](int fd) {
      while (read_head(fd).ends_with("\r\n\r\n")) {
        ++heads;
        write_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", soon());
      }
    });
    route("box", {server.port});
    const auto bytes = replaced(wire.bytes, "box.localhost:8080", host("box"));
    const UniqueFd client = dial();
    write_all(client.get(), bytes, soon());
    const auto first = read_head(client.get());
    if (wire.expect.starts_with("accept")) {
      EXPECT_EQ(status_of(first), 200) << wire.name;
      continue;
    }
    // "400", "body 400": in a body the server may have been asked, but the client learns that it was refused, unless
    // the server was quicker; the connection ends in any case.
    const bool body = wire.expect.starts_with("body ");
    if (!body || status_of(first) != 200) {
      EXPECT_EQ(std::to_string(status_of(first)), replaced(wire.expect, "body ", "")) << wire.name;
    }
    EXPECT_THAT(read_to_end(client.get()), Not(HasSubstr("HTTP/1.1 200"))) << wire.name;
    if (!body) {
      EXPECT_EQ(heads, 0) << wire.name;
    }
  }
}

TEST_F(ReverseTest, AnAnswerThatIsNotHttpIsOurs) {
  SharedText bytes;
  Server server([&](int fd) {
    if (!read_head(fd).ends_with("\r\n\r\n")) return;
    write_all(fd, bytes.str(), soon());
  });
  start();
  route("box", {server.port});
  for (const auto& wire : test::read_wire_cases(DESYNC_CASES)) {
    if (wire.side != "response GET" || wire.expect != "502") continue;
    bytes = wire.bytes;
    const auto answer = get(host("box"));
    EXPECT_EQ(status_of(answer), 502) << wire.name;
    EXPECT_THAT(answer, HasSubstr("gave no proper answer")) << wire.name;
  }
  for (const std::string& odd :
       {std::string(), std::string("HTTP/1.1 200 OK\r\nContent-"), std::string("SSH-2.0-x\r\n"),
        std::string("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        std::string("HTTP/1.1 200 OK\r\nX: ") + std::string(70'000, 'x')}) {
    bytes = odd;
    EXPECT_EQ(status_of(get(host("box"))), 502) << odd.substr(0, 40);
  }
  std::string interim;
  for (int i = 0; i < 100; ++i) interim += "HTTP/1.1 102 Wait\r\n\r\n";
  bytes = interim;
  EXPECT_THAT(get(host("box")), HasSubstr("HTTP/1.1 502"));
}

TEST_F(ReverseTest, ABrokenBodyIsNeverTakenForWhole) {
  SharedText bytes;
  Server server([&](int fd) {
    if (!read_head(fd).ends_with("\r\n\r\n")) return;
    write_all(fd, bytes.str(), soon());
  });
  start();
  route("box", {server.port});
  for (const char* odd :
       {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nSet-Cookie: a\r\n\r\n"}) {
    bytes = odd;
    const auto answer = get(host("box"));
    EXPECT_THAT(answer, Not(HasSubstr("\r\n0\r\n"))) << odd;
    EXPECT_THAT(answer, HasSubstr("<reset>")) << odd;
    EXPECT_THAT(ask(fmt::format("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", host("box"))), HasSubstr("<reset>")) << odd;
  }
}

/// Response-queue poisoning: what follows an answer is nobody's answer.
TEST_F(ReverseTest, WhatFollowsAnAnswerReachesNobody) {
  std::atomic<int> asked = 0;
  Server server([&](int fd) {
    serve_each(fd, [&](auto&, auto&) {
      ++asked;
      return answer_with("good") + answer_with("poison");
    });
  });
  start();
  route("box", {server.port});
  const UniqueFd client = dial();
  for (int i = 0; i < 5; ++i) {
    write_all(client.get(), fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("box")), soon());
    EXPECT_EQ(status_of(read_head(client.get())), 200);
    EXPECT_EQ(read_exactly(client.get(), 4), "good");
  }
  EXPECT_EQ(asked, 5);
  EXPECT_EQ(server.accepted, 5);
}

/// A request may be sent twice only when it cannot have had an effect.
TEST_F(ReverseTest, OnlyWhatMayBeRepeatedIsRepeated) {
  std::atomic<int> heads = 0;
  Server server([&](int fd) {
    // The first answer is good; the connection is dropped when the second request has been read.
    for (int i = 0; i < 2; ++i) {
      if (!read_head(fd).ends_with("\r\n\r\n")) return;
      ++heads;
      if (i == 0) write_all(fd, answer_with("x"), soon());
    }
  });
  start();
  route("box", {server.port});
  const auto second = [&](const std::string& method) {
    heads = 0;
    const UniqueFd client = dial();
    write_all(client.get(), fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("box")), soon());
    read_head(client.get());
    read_exactly(client.get(), 1);
    write_all(client.get(), fmt::format("{} / HTTP/1.1\r\nHost: {}\r\n\r\n", method, host("box")), soon());
    return status_of(read_head(client.get()));
  };
  EXPECT_EQ(second("GET"), 200);
  EXPECT_EQ(heads, 3);
  EXPECT_EQ(second("POST"), 502);
  EXPECT_EQ(heads, 2);
}

}  // namespace
}  // namespace agentvm::proxy
