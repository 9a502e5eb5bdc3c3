// SOCKS 5 on the same listener: the same rules, in another language.
#include "proxy/egress/socks.hpp"

#include "tests/contract/egress/fixture.hpp"
#include "tests/support/client_hello.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Kind = Decision::Kind;

const std::string greeting("\5\1\0", 3), accepted("\5\0", 2), granted("\5\0\0\1\0\0\0\0\0\0", 10);

std::string socks_request(const std::string& host, std::uint16_t port) {
  return std::string("\5\1\0\3", 4) + static_cast<char>(host.size()) + host + static_cast<char>(port >> 8) +
         static_cast<char>(port & 0xff);
}

TEST_F(EgressTest, SocksCarriesWhatTheRulesAllow) {
  Server server([](int fd) { write_all(fd, "got " + read_to_end(fd), soon()); });
  start({grant("good.test:" + std::to_string(server.port))});
  const UniqueFd fd = dial();
  write_all(fd.get(), greeting, soon());
  char answer[2];
  ASSERT_EQ(read_some(fd.get(), answer, 2, soon()), 2u);
  // The first bytes may come with the request.
  write_all(fd.get(), socks_request("Good.TEST", server.port) + "EHLO\r\n", soon());
  ::shutdown(fd.get(), SHUT_WR);
  EXPECT_EQ(read_to_end(fd.get()), granted + "got EHLO\r\n");
  const auto decision = last_decision();
  EXPECT_EQ(decision.kind, Kind::allowed);
  EXPECT_EQ(decision.protocol, Decision::Protocol::socks5);
  EXPECT_EQ(decision.host, "good.test");
  EXPECT_EQ(decision.bytes_up, 6u);
}

TEST_F(EgressTest, SocksAnswersWithAReasonWhereItHasOne) {
  std::uint16_t closed = 0;
  {
    Server gone([](int) {});
    closed = gone.port;
  }
  start({plain("special.test"), grant("nowhere.test"), grant("closed.test:" + std::to_string(closed))});
  names_->addresses["nowhere.test"] = {};
  const auto reply = [&](const std::string& request) {
    const auto text = ask(greeting + request);
    EXPECT_THAT(text, StartsWith(accepted));
    return text.size() == 12 ? static_cast<int>(text[3]) : -1;
  };
  EXPECT_EQ(reply(socks_request("other.test", 443)), 2);
  EXPECT_EQ(last_decision().kind, Kind::denied);
  EXPECT_EQ(reply(socks_request("special.test", 443)), 2);
  EXPECT_EQ(last_decision(2).cause, Cause::special_address);
  for (const std::string host : {"127.0.0.1", "2130706433", "0x7f.1", "::1", "[::1]"})
    EXPECT_EQ(reply(socks_request(host, 80)), 2);
  EXPECT_EQ(reply(socks_request("nowhere.test", 443)), 4);
  EXPECT_EQ(reply(socks_request("closed.test", closed)), 5);
  EXPECT_EQ(reply(std::string("\5\2\0\3", 4)), 7);                   // BIND
  EXPECT_EQ(reply(std::string("\5\1\0\1\x7f\0\0\1\0\x50", 10)), 8);  // an address
  EXPECT_EQ(last_decision(11).kind, Kind::malformed);
  EXPECT_EQ(ask("\5\1\2"), "\5\xff");  // a password
  EXPECT_THAT(last_decision(12).reason, HasSubstr("authentication"));
}

TEST_F(EgressTest, SocksTunnelsAreLookedIntoToo) {
  Server server([](int fd) { read_to_end(fd); });
  start({grant("good.test:" + std::to_string(server.port))});
  const auto text = ask(greeting + socks_request("good.test", server.port) + test::client_hello("evil.test"));
  EXPECT_EQ(text, accepted + granted + std::string("\x15\x03\x03\x00\x02\x02\x70", 7));
  EXPECT_EQ(last_decision().cause, Cause::other_name);
}

TEST_F(EgressTest, WhatIsNeitherSocksNorHttpIsToldSoAtOnce) {
  start({});
  for (const std::string& first :
       {std::string("\4\1\0\x50\x7f\0\0\1\0", 9), std::string("\x16\x03\x01"), std::string("\0", 1)}) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_THAT(ask(first), StartsWith("HTTP/1.1 400"));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(2500));
  }
}

}  // namespace
}  // namespace agentvm::egress
