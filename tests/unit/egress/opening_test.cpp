// What may be first in a tunnel: TLS that asks for the same name, a plain request, or neither.
#include "proxy/egress/opening.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proxy/egress/client_hello.hpp"
#include "proxy/egress/head.hpp"
#include "tests/support/client_hello.hpp"

namespace agentvm::egress {
namespace {

using test::client_hello;
using testing::HasSubstr;
const HostPort https{"good.test", 443};

std::string fault_of(const std::string& data) {
  return parse_client_hello(data).fault.value_or("");
}

TEST(ClientHello, NamesItsServerOverAnyNumberOfRecordsAndReads) {
  const auto whole = client_hello("Good.TEST");
  ASSERT_TRUE(parse_client_hello(whole).hello) << fault_of(whole);
  EXPECT_EQ(parse_client_hello(whole).hello->name, "good.test");
  EXPECT_FALSE(parse_client_hello(whole).hello->encrypted);
  EXPECT_EQ(parse_client_hello(whole + "early data").hello->name, "good.test");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto part = parse_client_hello(whole.substr(0, size));
    EXPECT_TRUE(part.incomplete()) << size;
    EXPECT_GT(part.needed, size);
    EXPECT_LE(part.needed, whole.size());
  }
  std::string pieces;
  for (const char c : test::client_hello_message(test::server_name_extension("good.test")))
    pieces += test::tls_record({c});
  EXPECT_EQ(parse_client_hello(pieces).hello->name, "good.test");
  EXPECT_FALSE(parse_client_hello(client_hello(std::nullopt)).hello->name);
  EXPECT_TRUE(parse_client_hello(client_hello("good.test", test::tls_extension(0xfe0d, "grease"))).hello->encrypted);
}

TEST(ClientHello, WhatTwoReadersCouldReadDifferentlyIsRefused) {
  const auto hello = [](const std::string& extensions) {
    return test::tls_record(test::client_hello_message(extensions));
  };
  const auto name = [](const std::string& list) { return test::tls_extension(0, list); };
  const auto entry = [](const std::string& text, char kind = 0) { return kind + test::sized(text, 2); };
  EXPECT_THAT(fault_of(hello(test::server_name_extension("a.test") + test::server_name_extension("b.test"))),
              HasSubstr("extension twice"));
  EXPECT_THAT(fault_of(hello(name(test::sized(entry("a.test") + entry("b.test"), 2)))), HasSubstr("more than one"));
  EXPECT_THAT(fault_of(hello(name(test::sized(entry("a.test", 1), 2)))), HasSubstr("unknown kind"));
  EXPECT_THAT(fault_of(hello(name(test::sized(entry("a.test"), 2) + "x"))), HasSubstr("server name is malformed"));
  for (const std::string bad : {"a.test.", "a test", "", ".", "a..test", "\xc3\xa4.test"})
    EXPECT_EQ(fault_of(hello(name(test::sized(entry(bad), 2)))), "the TLS server name is no DNS name") << bad;
  EXPECT_THAT(fault_of(hello(name(test::sized(entry(std::string("a.test\0", 7)), 2)))), HasSubstr("no DNS name"));
  EXPECT_THAT(fault_of(hello(std::string("\x00\x00\x00\x09x", 5))), HasSubstr("malformed"));
  const auto message = test::client_hello_message(test::server_name_extension("a.test"));
  EXPECT_THAT(fault_of(test::tls_record(message + "\x0b")), HasSubstr("bytes follow"));
  EXPECT_THAT(fault_of(test::tls_record("\x02" + message.substr(1))), HasSubstr("does not begin with a ClientHello"));
  EXPECT_THAT(fault_of(test::tls_record(message.substr(0, 10)) + "\x17\x03\x03"), HasSubstr("not a TLS handshake"));
  EXPECT_THAT(fault_of("\x16\x02"), HasSubstr("version is unknown"));
  EXPECT_THAT(fault_of(std::string("\x16\x03\x01\0\0", 5)), HasSubstr("record is malformed"));
  EXPECT_THAT(fault_of("\x16\x03\x01\xff\xff"), HasSubstr("record is malformed"));
  EXPECT_THAT(fault_of(test::tls_record("\x01\xff\xff\xff")), HasSubstr("too large"));
  std::string many;
  for (std::uint16_t i = 0; i < 65; ++i) many += test::tls_extension(static_cast<std::uint16_t>(1000 + i), "");
  EXPECT_THAT(fault_of(hello(many)), HasSubstr("too many extensions"));
}

TEST(ClientHello, PiecesAreBounded) {
  // A hello of 16 KB in records of one byte: six times its size on the wire.
  const auto padding = test::tls_extension(21, std::string(16'000, '\0'));
  std::string pieces;
  for (const char c : test::client_hello_message(padding)) pieces += test::tls_record({c});
  EXPECT_THAT(fault_of(pieces), HasSubstr("too many pieces"));
  EXPECT_TRUE(parse_client_hello(test::tls_record(test::client_hello_message(padding))).hello);
}

TEST(Opening, TlsMustAskForTheNameOfTheTunnel) {
  const auto judge = [](const std::string& first, const HostPort& target = https) {
    return judge_opening(first, target);
  };
  EXPECT_EQ(judge(client_hello("good.test")).opening, Opening::pass);
  EXPECT_EQ(judge(client_hello("GOOD.test"), {"good.test", 8443}).opening, Opening::pass);
  for (const auto& target : {https, HostPort{"good.test", 8443}, HostPort{"good.test", 22}}) {
    const auto verdict = judge(client_hello("evil.test"), target);
    EXPECT_EQ(verdict.opening, Opening::refuse);
    EXPECT_TRUE(verdict.tls);
    EXPECT_EQ(verdict.reason, "TLS asks for evil.test, the connection was for good.test");
  }
  EXPECT_EQ(judge(client_hello("sub.good.test")).opening, Opening::refuse);
  EXPECT_THAT(judge(client_hello(std::nullopt)).reason, HasSubstr("TLS names no server"));
  EXPECT_THAT(judge(client_hello("good.test", test::tls_extension(0xfe0d, "x"))).reason, HasSubstr("hides whom"));
  EXPECT_EQ(judge(client_hello("good.test").substr(0, 20)).opening, Opening::more);
  EXPECT_EQ(judge("\x16\x02").opening, Opening::refuse);
}

TEST(Opening, AnAddressHasNoName) {
  const HostPort address{"192.0.2.1", 443};
  EXPECT_EQ(judge_opening(client_hello(std::nullopt), address).opening, Opening::pass);
  EXPECT_EQ(judge_opening(client_hello("192.0.2.1"), address).opening, Opening::pass);
  EXPECT_EQ(judge_opening(client_hello("evil.test"), address).opening, Opening::refuse);
  EXPECT_EQ(judge_opening("anything", address).opening, Opening::pass);
}

TEST(Opening, PlainHttpIsReadAsARequestOnEveryPort) {
  for (const std::uint16_t port : {80, 443, 8080}) {
    const HostPort target{"good.test", port};
    EXPECT_EQ(judge_opening("GET / HTTP/1.1\r\n", target).opening, Opening::request) << port;
    EXPECT_EQ(judge_opening("x / HTTP/9\n", target).opening, Opening::request) << port;
    EXPECT_EQ(judge_opening(" GET / HTTP/1.1\r\n", target).opening, Opening::request) << port;
    EXPECT_EQ(judge_opening("GET /" + std::string(20'000, 'x'), target).opening, Opening::request) << port;
    EXPECT_EQ(judge_opening("\r\nGET / HTTP/1.1\r\n", target).opening, Opening::refuse) << port;
    EXPECT_EQ(judge_opening("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", target).opening, Opening::refuse) << port;
    EXPECT_EQ(judge_opening("GET / HT", target).opening, Opening::more) << port;
    EXPECT_EQ(judge_opening("", target).opening, Opening::more) << port;
  }
}

TEST(Opening, OtherProtocolsPassOnPortsThatWereListedOnPurpose) {
  for (const std::string& first :
       {std::string("EHLO me\r\n"), std::string("\0\0\0\x08", 4), std::string("*1\r\n$4\r\nPING\r\n"),
        std::string("0032git-upload-pack /p\0host=x\0", 30)}) {
    EXPECT_EQ(judge_opening(first, {"good.test", 9418}).opening, Opening::pass) << first;
    EXPECT_EQ(judge_opening(first, {"good.test", 443}).opening, Opening::refuse) << first;
    EXPECT_EQ(judge_opening(first, {"good.test", 80}).opening, Opening::refuse) << first;
  }
  for (const std::uint16_t port : {22, 443})
    EXPECT_EQ(judge_opening("SSH-2.0-x\r\n", {"good.test", port}).opening, Opening::pass);
}

TEST(TunnelledHead, IsInOriginFormAndNamesTheHostOfTheTunnel) {
  const HostPort tunnel{"good.test", 8080};
  const auto parse = [&](const std::string& text) { return parse_tunnelled_head(text, tunnel); };
  const auto fine = parse("POST /a?b HTTP/1.1\r\nHost: good.test:8080\r\nContent-Length: 2\r\nUpgrade: h2c\r\n\r\nhi");
  ASSERT_TRUE(fine.head);
  EXPECT_EQ(fine.head->serialise(),
            "POST /a?b HTTP/1.1\r\nHost: good.test:8080\r\nContent-Length: 2\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(parse("GET / HTTP/1.1\r\nHost: Good.test\r\n\r\n").head);
  for (const std::string host : {"evil.test", "good.test:8081", "good.test.evil.test", "good.test@evil.test"}) {
    const auto result = parse("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n");
    ASSERT_TRUE(result.fault) << host;
    EXPECT_EQ(result.fault->status, host.find('@') == std::string::npos ? 403 : 400) << host;
  }
  for (const std::string line : {"GET http://evil.test/ HTTP/1.1", "CONNECT evil.test:80 HTTP/1.1", "GET * HTTP/1.1",
                                 "TRACE / HTTP/1.1", "GET / HTTP/2.0"})
    EXPECT_TRUE(parse(line + "\r\nHost: good.test\r\n\r\n").fault) << line;
  EXPECT_TRUE(parse("GET / HTTP/1.0\r\n\r\n").fault);  // without a Host, the server picks one
}

}  // namespace
}  // namespace agentvm::egress
