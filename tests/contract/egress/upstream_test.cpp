// Behind a company's proxy: names are sent on, addresses are still judged, and what is near is reached directly.
#include "tests/contract/egress/fixture.hpp"
#include "tests/support/client_hello.hpp"

namespace agentvm::egress {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Kind = Decision::Kind;

/// A proxy that answers each request with `answer`, and keeps what it was asked and sent.
struct CompanyProxy {
  std::string answer = "HTTP/1.1 200 Connection established\r\n\r\n";
  Heard asked, sent;
  Server server{[this](int fd) {
    asked.add(read_head(fd));
    write_all(fd, answer, soon());
    if (answer.starts_with("HTTP/1.1 200 Conn")) sent.add_all(fd);
  }};
};

class UpstreamTest : public EgressTest {
 protected:
  void start_behind(const CompanyProxy& proxy, std::vector<HostRule> entries, const std::string& credentials = "",
                    std::vector<std::string> directs = {}) {
    start(std::move(entries));
    auto upstream = UpstreamProxy::parse("http://" + credentials + "proxy.test:" + std::to_string(proxy.server.port));
    upstream.directs = std::move(directs);
    egress_->set_upstream(std::move(upstream));
  }
};

TEST_F(UpstreamTest, ATunnelGoesThroughByName) {
  CompanyProxy proxy;
  proxy.answer += "server first";
  start_behind(proxy, {plain("good.test")}, "me:secret@");
  const auto fd = tunnel("good.test", 443);
  char greeting[12];
  ASSERT_EQ(read_some(fd.get(), greeting, sizeof greeting, soon()), sizeof greeting);
  EXPECT_EQ(std::string(greeting, sizeof greeting), "server first");
  const auto hello = test::client_hello("good.test");
  write_all(fd.get(), hello, soon());
  for (const Deadline deadline = soon(); proxy.sent.text().size() < hello.size() && !deadline.expired();)
    ::usleep(2000);
  EXPECT_EQ(proxy.sent.text(), hello);
  EXPECT_THAT(proxy.asked.text(),
              AllOf(StartsWith("CONNECT good.test:443 HTTP/1.1\r\n"), HasSubstr("Proxy-Authorization: Basic ")));
  EXPECT_EQ(names_->lookups, 1) << "the proxy's own name, and no other";
}

TEST_F(UpstreamTest, WhatATunnelCarriesIsStillJudged) {
  CompanyProxy proxy;
  start_behind(proxy, {plain("good.test")});
  const auto fd = tunnel("good.test", 443);
  write_all(fd.get(), test::client_hello("evil.test"), soon());
  read_to_end(fd.get());
  EXPECT_EQ(last_decision().kind, Kind::denied);
  EXPECT_EQ(proxy.sent.text(), "");
}

TEST_F(UpstreamTest, APlainRequestIsAskedForInAbsoluteForm) {
  CompanyProxy proxy;
  proxy.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
  start_behind(proxy, {plain("good.test")}, "me:secret@");
  EXPECT_THAT(ask("GET http://good.test/a?b HTTP/1.1\r\nHost: good.test\r\nProxy-Authorization: Basic guest\r\n\r\n"),
              testing::EndsWith("ok"));
  EXPECT_THAT(proxy.asked.text(),
              AllOf(StartsWith("GET http://good.test/a?b HTTP/1.1\r\nHost: good.test\r\n"),
                    HasSubstr("\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n"), Not(HasSubstr("guest"))));
}

TEST_F(UpstreamTest, WhatIsNotListedDoesNotReachIt) {
  CompanyProxy proxy;
  start_behind(proxy, {plain("good.test")});
  EXPECT_THAT(ask(connect_request("evil.test", 443)), StartsWith("HTTP/1.1 403"));
  EXPECT_EQ(proxy.server.accepted, 0);
}

TEST_F(UpstreamTest, AddressesInRequestsAreJudgedHere) {
  CompanyProxy proxy;
  const auto addresses = {"10.0.0.1", "169.254.169.254", "127.0.0.1"};
  std::vector<HostRule> entries;
  for (const auto* address : addresses) {
    names_->addresses[address] = {*IpAddress::parse(address)};
    entries.push_back(plain(std::string(address) + ":80"));
  }
  start_behind(proxy, std::move(entries));
  for (const auto* address : addresses) {
    EXPECT_THAT(ask(connect_request(address, 80)), StartsWith("HTTP/1.1 403")) << address;
  }
  EXPECT_EQ(proxy.server.accepted, 0);
}

TEST_F(UpstreamTest, AGrantThatIsNearIsReachedDirectly) {
  CompanyProxy proxy;
  Server near([](int fd) { write_all(fd, "near", soon()); });
  start_behind(proxy, {grant("registry.test:" + std::to_string(near.port))});
  const auto fd = tunnel("registry.test", near.port);
  EXPECT_EQ(read_to_end(fd.get()), "near");
  EXPECT_EQ(proxy.server.accepted, 0);
}

TEST_F(UpstreamTest, AGrantThatIsPublicOrUnknownHereGoesThrough) {
  CompanyProxy proxy;
  names_->addresses = {{"public.test", {*IpAddress::parse("1.1.1.1")}}, {"unknown.test", {}}};
  start_behind(proxy, {grant("public.test:443"), grant("unknown.test:443")});
  const auto first = tunnel("public.test", 443), second = tunnel("unknown.test", 443);
  EXPECT_THAT(proxy.asked.text(), AllOf(HasSubstr("CONNECT public.test:443"), HasSubstr("CONNECT unknown.test:443")));
}

TEST_F(UpstreamTest, NoProxyIsReachedDirectly) {
  CompanyProxy proxy;
  Server near([](int fd) { write_all(fd, "near", soon()); });
  start_behind(proxy, {grant("direct.test:" + std::to_string(near.port))}, "", {"direct.test"});
  const auto fd = tunnel("direct.test", near.port);
  EXPECT_EQ(read_to_end(fd.get()), "near");
}

TEST_F(UpstreamTest, ARefusalOfItsOwnIsTold) {
  CompanyProxy proxy;
  proxy.answer = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
  start_behind(proxy, {plain("good.test")}, "me:secret@");
  EXPECT_THAT(ask(connect_request("good.test", 443)),
              AllOf(StartsWith("HTTP/1.1 502"), HasSubstr("through the proxy http://proxy.test:"),
                    HasSubstr("it answers 407 Proxy"), Not(HasSubstr("secret"))));
  EXPECT_THAT(last_decision().reason, Not(HasSubstr("secret")));
}

TEST_F(UpstreamTest, OneThatIsSilentIsNotWaitedForWithoutEnd) {
  Limits limits;
  limits.connect = milliseconds(300);
  Server silent([](int fd) { read_to_end(fd); });
  start({plain("good.test")}, limits);
  egress_->set_upstream(UpstreamProxy::parse("http://proxy.test:" + std::to_string(silent.port)));
  EXPECT_THAT(ask(connect_request("good.test", 443)),
              AllOf(StartsWith("HTTP/1.1 502"), HasSubstr("it does not answer")));
}

}  // namespace
}  // namespace agentvm::egress
