// Servers at their own number on the host, with real listeners: who reaches them, from where, and for how long.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/contract/reverse/fixture.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::proxy {
namespace {

using testing::HasSubstr;
using testing::Not;

/// A socket that is bound to the loopback and, with `number` 0, to a port that is free; empty without such an address.
UniqueFd bound(int family, std::uint16_t& number) {
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(number);
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(number);
  v6.sin6_addr = in6addr_loopback;
  auto* address = family == AF_INET ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
  socklen_t size = family == AF_INET ? sizeof v4 : sizeof v6;
  if (!fd || ::bind(fd.get(), address, size) != 0 || ::listen(fd.get(), 1) != 0) return {};
  ::getsockname(fd.get(), address, &size);
  number = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
  return fd;
}

std::uint16_t free_number() {
  std::uint16_t number = 0;
  bound(AF_INET, number);
  return number;
}

/// errno of connecting to a port of `address`; 0: somebody listens.
int connecting(std::uint32_t address, std::uint16_t number) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(number);
  to.sin_addr.s_addr = htonl(address);
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
}

class SamePortTest : public ReverseTest {
 protected:
  /// Every number of every guest leads to `server`: on this machine its own number is the listener's.
  void begin(const Server& server) {
    start({}, 2, SamePort::on);
    const std::lock_guard lock(dialling_);
    dial_instead_ = [port = server.port](Options::Dialled done) { done(connect_to(port), ""); };
  }
  std::string ask_at(std::uint16_t number, const std::string& host, const std::string& more = "") const {
    const UniqueFd fd = connect_to(number);
    write_all(fd.get(), fmt::format("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}\r\n", host, more), soon());
    return read_to_end(fd.get());
  }
  const Port& port_of(const std::string& sandbox) {
    snapshot_ = proxy_->routes().snapshot();
    return snapshot_->at(sandbox).ports.at(0);
  }
  RouteSnapshot snapshot_;
};

TEST_F(SamePortTest, ToldApartByTheExactName) {
  Server server([](int fd) { serve_each(fd, [](auto& head, auto&) { return answer_with("secret " + head); }); });
  begin(server);
  const auto number = free_number();
  route("box", {number});
  route("other", {number});
  route("quiet", {});
  const auto name = fmt::format("box.localhost:{}", number);
  EXPECT_THAT(ask_at(number, name), HasSubstr(fmt::format("Host: {}\r\n", name)));
  EXPECT_THAT(ask_at(number, fmt::format("other.localhost:{}", number)), HasSubstr("Host: other.localhost"));
  const int before = dials_;
  for (const auto& [host_name, status] :
       std::vector<std::pair<std::string, int>>{{fmt::format("localhost:{}", number), 421},
                                                {fmt::format("127.0.0.1:{}", number), 421},
                                                {fmt::format("[::1]:{}", number), 421},
                                                {fmt::format("{}.box.localhost:{}", number, number), 421},
                                                {fmt::format("feature.box.localhost:{}", number), 421},
                                                {fmt::format("nobody.localhost:{}", number), 421},
                                                {fmt::format("evil.example:{}", number), 421},
                                                {"box.localhost", 421},
                                                {host("box"), 421},
                                                {host(number), 421},
                                                {fmt::format("quiet.localhost:{}", number), 503}}) {
    const auto answer = ask_at(number, host_name);
    EXPECT_EQ(status_of(answer), status) << host_name;
    EXPECT_THAT(answer, Not(HasSubstr("secret"))) << host_name;
  }
  EXPECT_EQ(status_of(get(name)), 421);  // at the site's own port
  EXPECT_EQ(dials_, before);
  EXPECT_EQ(status_of(get(host("box"))), 200);
}

TEST_F(SamePortTest, ListensOnTheLoopbackAddressAlone) {
  Server server([](int) {});
  begin(server);
  const auto number = free_number();
  route("box", {number});
  ASSERT_TRUE(port_of("box").same_port) << port_of("box").same_port_problem;
  EXPECT_EQ(connecting(INADDR_LOOPBACK, number), 0);
  EXPECT_EQ(connecting(0x7f000002, number), ECONNREFUSED);
}

TEST_F(SamePortTest, ListensAsLongAsSomebodyHasTheNumber) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("yes"); }); });
  begin(server);
  const auto number = free_number();
  const auto name = fmt::format("other.localhost:{}", number);
  for (int i = 0; i < 20; ++i) {  // closed and opened again at once
    EXPECT_EQ(connecting(INADDR_LOOPBACK, number), ECONNREFUSED);
    route("box", {number});
    EXPECT_EQ(connecting(INADDR_LOOPBACK, number), 0);
    route("other", {number});
    route("box", {});
    EXPECT_EQ(status_of(ask_at(number, name)), 200);
    route("other", {});
  }
  // Who is connected already is told.
  route("box", {number});
  const UniqueFd kept = connect_to(number);
  const auto request = fmt::format("GET / HTTP/1.1\r\nHost: box.localhost:{}\r\n\r\n", number);
  write_all(kept.get(), request, soon());
  EXPECT_EQ(status_of(read_head(kept.get())), 200);
  EXPECT_EQ(read_exactly(kept.get(), 3), "yes");
  route("box", {});
  EXPECT_EQ(connecting(INADDR_LOOPBACK, number), ECONNREFUSED);
  write_all(kept.get(), request, soon());
  EXPECT_EQ(status_of(read_head(kept.get())), 503);
}

TEST_F(SamePortTest, ANumberOfAnotherProgramIsLeftToIt) {
  Server server([](int) {});
  begin(server);
  for (const int family : {AF_INET, AF_INET6}) {
    std::uint16_t number = 0;
    auto other = bound(family, number);
    if (!other) continue;  // no ::1 here
    route("box", {number});
    EXPECT_FALSE(port_of("box").same_port);
    EXPECT_THAT(port_of("box").same_port_problem, HasSubstr("another program"));
    // Not on the other address either: a browser takes whichever answers.
    if (family == AF_INET6) {
      EXPECT_EQ(connecting(INADDR_LOOPBACK, number), ECONNREFUSED);
    }
    EXPECT_EQ(status_of(get(host("quiet"))), 421);
    other.reset();
    proxy_->routes().change([&](Routes& all) { proxy_->follow_ports(all); });
    EXPECT_TRUE(port_of("box").same_port) << port_of("box").same_port_problem;
  }
  route("box", {proxy_->site().port, 80});
  EXPECT_THAT(port_of("box").same_port_problem, HasSubstr("own port"));
}

TEST_F(SamePortTest, AWebsocketComesFromAPageOfTheSameSandbox) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("yes"); }); });
  begin(server);
  const auto number = free_number();
  std::uint16_t taken = 0;
  const auto other = bound(AF_INET, taken);
  route("box", {number, taken});
  route("other", {number});
  const auto upgrade = [&](const std::string& origin) {
    return status_of(ask_at(number, fmt::format("box.localhost:{}", number),
                            fmt::format("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {}\r\n",
                                        origin)));
  };
  for (const auto& origin : {fmt::format("http://box.localhost:{}", number), "http://" + host("box"),
                             "http://" + host(taken), "http://feature." + host("box")})
    EXPECT_EQ(upgrade(origin), 200) << origin;
  for (const auto& origin :
       {fmt::format("http://other.localhost:{}", number), fmt::format("http://box.localhost:{}", taken),
        fmt::format("http://localhost:{}", number), fmt::format("http://{0}.box.localhost:{0}", number),
        std::string("http://box.localhost:1"), std::string("http://evil.example"), std::string("null")})
    EXPECT_EQ(upgrade(origin), 403) << origin;
}

TEST_F(ReverseTest, NoOtherNumberIsListenedOnUnasked) {
  start();
  const auto number = free_number();
  route("box", {number});
  EXPECT_EQ(connecting(INADDR_LOOPBACK, number), ECONNREFUSED);
  EXPECT_FALSE(proxy_->routes().snapshot()->at("box").ports.at(0).same_port);
}

}  // namespace
}  // namespace agentvm::proxy
