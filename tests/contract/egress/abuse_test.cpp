// A guest that means harm: floods, slowness, sizes, and a name server that changes its mind. Memory and time stay
// bounded, and the sandbox beside it does not notice.
#include <fstream>

#include "tests/contract/egress/fixture.hpp"
#include "tests/support/client_hello.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::size_t resident_bytes() {
  std::size_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * static_cast<std::size_t>(::getpagesize());
}

class Abuse : public EgressTest {
 protected:
  /// What another sandbox sees meanwhile.
  void expect_answers_elsewhere() {
    const UniqueFd fd = dial("other");
    write_all(fd.get(), connect_request("denied.test", 443), soon());
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_THAT(read_to_end(fd.get()), StartsWith("HTTP/1.1 403"));
    // A refusal waits a moment for its client to take it.
    EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(3000));
  }
  static constexpr std::size_t memory_limit_bytes = 64u << 20;
};

TEST_F(Abuse, AThousandAtOnceOf256AreServedTheRestIsToldSo) {
  start({grant("upstream.test")});
  egress_->set_policy("other", EgressPolicy());
  const auto before = resident_bytes();
  std::vector<UniqueFd> held;
  for (int i = 0; i < 1000; ++i) held.push_back(dial());
  int refused = 0;
  for (const auto& fd : held) {
    pollfd entry{fd.get(), POLLIN, 0};
    if (::poll(&entry, 1, refused < 744 ? 200 : 0) > 0 && read_to_end(fd.get()).starts_with("HTTP/1.1 503")) ++refused;
  }
  EXPECT_EQ(refused, 744);
  expect_answers_elsewhere();
  EXPECT_LE(egress_->connection_count(), 1000u);
  EXPECT_LT(resident_bytes() - std::min(before, resident_bytes()), memory_limit_bytes);
  held.clear();
  wait_idle();
}

TEST_F(Abuse, HeadsAndHellosThatNeverEndAreBounded) {
  Server server([](int fd) { read_to_end(fd); });
  start({grant("good.test:" + std::to_string(server.port))});
  egress_->set_policy("other", EgressPolicy());
  const auto before = resident_bytes();
  // 200 at once; each sends as much as it is let.
  const std::string request = "GET http://good.test/ HTTP/1.1\r\nA: " + std::string(100'000, 'x');
  const std::string many_headers = "GET http://good.test/ HTTP/1.1\r\n" + [] {
    std::string text;
    for (int i = 0; i < 5000; ++i) text += "A: b\r\n";
    return text;
  }();
  std::vector<UniqueFd> held;
  for (int i = 0; i < 100; ++i) {
    held.push_back(dial());
    ::fcntl(held.back().get(), F_SETFL, O_NONBLOCK);
    const auto& text = i % 2 == 0 ? request : many_headers;
    ASSERT_GT(::send(held.back().get(), text.data(), text.size(), MSG_NOSIGNAL), 0);
  }
  for (int i = 0; i < 100; ++i) {
    held.push_back(tunnel("good.test", server.port));
    ::fcntl(held.back().get(), F_SETFL, O_NONBLOCK);
    // A ClientHello that announces as much as there may be, in records of one byte.
    std::string pieces = test::tls_record("\x01") + test::tls_record(std::string("\0", 1)) + test::tls_record("\x3f") +
                         test::tls_record("\xfc");
    for (int piece = 0; piece < 10'000; ++piece) pieces += test::tls_record("x");
    ASSERT_GT(::send(held.back().get(), pieces.data(), pieces.size(), MSG_NOSIGNAL), 0);
  }
  expect_answers_elsewhere();
  EXPECT_LT(resident_bytes() - std::min(before, resident_bytes()), memory_limit_bytes);
  held.clear();
  wait_idle();
}

TEST_F(Abuse, SlowClientsOfEveryKindEndAtTheDeadline) {
  Server server([](int fd) { read_to_end(fd); });
  start({grant("good.test:" + std::to_string(server.port))}, {.head = milliseconds(400)});
  const auto begin = std::chrono::steady_clock::now();
  std::vector<UniqueFd> slow;
  for (const std::string& first : {std::string(), std::string("G"), std::string("\5"), std::string("\5\1\0", 3),
                                   std::string("\5\1\0\5\1\0\3\x09good", 12)}) {
    slow.push_back(dial());
    if (!first.empty()) write_all(slow.back().get(), first, soon());
  }
  slow.push_back(tunnel("good.test", server.port));
  write_all(slow.back().get(), "\x16", soon());
  for (const auto& fd : slow) read_to_end(fd.get());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(3000));
  wait_idle();
}

TEST_F(Abuse, ANameServerThatChangesItsMindGainsNothing) {
  // What was judged is what is connected to: the name is asked for once, and never by anybody else. The two answers are
  // both this host's here, and only the first leads to the server.
  Server server([](int fd) { write_all(fd, "here", soon()); });
  std::atomic<int> lookups = 0;
  Options options;
  options.resolve = [&](const std::string&) -> std::vector<IpAddress> {
    return {*IpAddress::parse(lookups++ == 0 ? "127.0.0.1" : "127.0.0.2")};
  };
  egress_ = std::make_unique<Egress>(std::move(options));
  egress_->set_policy("box", EgressPolicy({grant("rebind.test:" + std::to_string(server.port))}));
  EXPECT_THAT(ask(connect_request("rebind.test", server.port)), testing::EndsWith("here"));
  EXPECT_EQ(lookups, 1);
  EXPECT_EQ(server.accepted, 1);
}

TEST_F(Abuse, AnAnswerWithSpecialAddressesAmongPublicOnesLeadsToNoneOfThem) {
  Server server([](int) {});
  start({plain("mixed.test:" + std::to_string(server.port))}, {.connect = milliseconds(200)});
  for (const std::string special :
       {"127.0.0.1", "::ffff:127.0.0.1", "::1", "64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0"}) {
    names_->addresses["mixed.test"] = {*IpAddress::parse(special), *IpAddress::parse(special)};
    EXPECT_THAT(ask(connect_request("mixed.test", server.port)), HasSubstr("private or otherwise special")) << special;
  }
  EXPECT_EQ(server.accepted, 0);
}

}  // namespace
}  // namespace agentvm::egress
