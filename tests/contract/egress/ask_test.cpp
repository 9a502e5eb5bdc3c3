// Connections that wait until their user has decided (`egress.ask`): who lets them go, how, and how many there may be.
#include "tests/contract/egress/fixture.hpp"

namespace agentvm::egress {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Kind = Decision::Kind;

class Ask : public EgressTest {
 protected:
  void start_asking(Questions::Limits limits = {}, std::vector<HostRule> allow = {}) {
    Limits all;
    all.questions = limits;
    start({}, all);
    decide(std::move(allow));
  }
  /// As `agentvm egress allow` and `deny` change it.
  void decide(std::vector<HostRule> allow, std::vector<HostRule> deny = {}) {
    egress_->set_policy("box", EgressPolicy(std::move(allow), std::move(deny), Unlisted::asked));
  }
  UniqueFd send(const std::string& request) {
    UniqueFd fd = dial();
    write_all(fd.get(), request, soon());
    return fd;
  }
  UniqueFd send_connect(const std::string& host, std::uint16_t port = 443) { return send(connect_request(host, port)); }
  void wait_held(std::size_t names, std::size_t connections) {
    std::size_t seen = 0;
    for (const Deadline deadline = soon(); !deadline.expired(); ::usleep(2000)) {
      const auto open = egress_->questions("box");
      seen = 0;
      for (const auto& question : open) seen += question.connections;
      if (open.size() == names && seen == connections) return;
    }
    FAIL() << seen << " connections wait, of " << egress_->questions("box").size() << " names";
  }
  static bool silent(const UniqueFd& fd) {
    pollfd entry{fd.get(), POLLIN, 0};
    return ::poll(&entry, 1, 100) == 0;
  }
  std::vector<std::string> asked() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> hosts;
    for (const auto& question : questions_) hosts.push_back(question.host);
    return hosts;
  }
};

TEST_F(Ask, AnAllowingRuleLetsAllOfItsNameGoOn) {
  Server server([](int fd) { write_all(fd, "got " + read_to_end(fd), soon()); });
  start_asking();
  // What comes with the request, and while it waits, is kept.
  const UniqueFd first = send(connect_request("Upstream.TEST.", server.port) + "SSH-2.0-"),
                 second = send_connect("upstream.test", server.port);
  wait_held(1, 2);
  write_all(first.get(), "client\r\n", soon());
  const UniqueFd other = send_connect("other.test");
  wait_held(2, 3);
  EXPECT_TRUE(silent(first));
  EXPECT_EQ(names_->lookups, 0);  // a question of ours is none to a name server
  EXPECT_EQ(asked(), (std::vector<std::string>{"upstream.test", "other.test"}));
  EXPECT_EQ(egress_->questions("box")[0].rule, "upstream.test:" + std::to_string(server.port));
  {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(questions_[0].kind, Kind::asked);
    EXPECT_EQ(questions_[0].reason,
              "waits for you: agentvm egress allow box upstream.test:" + std::to_string(server.port));
    EXPECT_TRUE(decisions_.empty());
  }
  decide({grant("upstream.test:" + std::to_string(server.port))});
  for (const auto* fd : {&first, &second})
    EXPECT_EQ(read_head(fd->get()), "HTTP/1.1 200 Connection established\r\n\r\n");
  wait_held(1, 1);
  ::shutdown(first.get(), SHUT_WR);
  EXPECT_EQ(read_to_end(first.get()), "got SSH-2.0-client\r\n");
  EXPECT_EQ(last_decision().kind, Kind::allowed);
  EXPECT_TRUE(silent(other));
}

TEST_F(Ask, APlainRequestAndSocksWaitAsTunnelsDo) {
  Server server([](int fd) {
    read_head(fd);
    write_all(fd, "HTTP/1.1 204 No Content\r\n\r\n", soon());
  });
  start_asking();
  const auto port = server.port;
  const std::string authority = "upstream.test:" + std::to_string(port);
  const UniqueFd plain = send("GET http://" + authority + "/ HTTP/1.1\r\nHost: " + authority + "\r\n\r\n");
  std::string request("\5\1\0\5\1\0\3\x0dupstream.test", 21);
  request += static_cast<char>(port >> 8);
  request += static_cast<char>(port & 0xff);
  const UniqueFd socks = send(request);
  wait_held(1, 2);
  decide({grant(authority)});
  EXPECT_THAT(read_to_end(plain.get()), StartsWith("HTTP/1.1 204"));
  char reply[12] = {};
  for (char& byte : reply) ASSERT_EQ(read_some(socks.get(), &byte, 1, soon()), 1U);
  EXPECT_EQ(std::string(reply, 4), std::string("\5\0\5\0", 4));
}

TEST_F(Ask, ADenyingRuleRefusesThemAtOnce) {
  start_asking();
  const UniqueFd one = send_connect("a.evil.test"), two = send_connect("b.evil.test"),
                 other = send_connect("good.test");
  wait_held(3, 3);
  decide({}, {HostRule::parse("*.evil.test", "agentvm egress deny")});
  for (const auto* fd : {&one, &two}) {
    const auto answer = read_to_end(fd->get());
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 403"));
    EXPECT_THAT(answer, HasSubstr("is denied by *.evil.test (agentvm egress deny)"));
  }
  EXPECT_EQ(last_decision(2).cause, Cause::denied_by_rule);
  EXPECT_TRUE(silent(other));
  // Asking was ended: who waits is refused as if it had never been.
  egress_->set_policy("box", EgressPolicy());
  EXPECT_THAT(read_to_end(other.get()), HasSubstr("good.test:443 is not allowed.\n"));
}

TEST_F(Ask, AtItsEndAQuestionIsANoThatSaysHowToAsk) {
  start_asking({.time = milliseconds(1200)});
  const auto begin = std::chrono::steady_clock::now();
  const UniqueFd first = send_connect("slow.test");
  wait_held(1, 1);
  ::usleep(300'000);
  const UniqueFd second = send_connect("slow.test");  // it joins, and ends with it
  for (const auto* fd : {&first, &second}) {
    const auto answer = read_to_end(fd->get());
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 403"));
    EXPECT_THAT(answer, HasSubstr("slow.test:443 is not allowed, and nobody has decided within 1 seconds"));
    EXPECT_THAT(answer, EndsWith("agentvm egress allow box slow.test\n"));
  }
  const auto span = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(span, milliseconds(1200));
  EXPECT_LT(span, milliseconds(8000));
  const auto decision = last_decision(2);
  EXPECT_EQ(decision.kind, Kind::denied);
  EXPECT_EQ(decision.cause, Cause::not_listed);
  EXPECT_EQ(names_->lookups, 0);
  wait_held(0, 0);
}

TEST_F(Ask, BeyondTheLimitsItIsRefusedAsIfNobodyWereAsked) {
  start_asking({.names = 2, .connections = 3});
  const UniqueFd one = send_connect("one.test"), two = send_connect("two.test");
  wait_held(2, 2);
  const auto refused = [&](const std::string& host) {
    const auto answer = ask(connect_request(host, 443));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 403")) << host;
    EXPECT_THAT(answer, HasSubstr(host + ":443 is not allowed.\n"));
    EXPECT_THAT(answer, HasSubstr("agentvm egress allow box " + host));
  };
  refused("three.test");
  const UniqueFd joined = send_connect("one.test");
  wait_held(2, 3);
  refused("one.test");
  EXPECT_EQ(asked().size(), 2U);
}

TEST_F(Ask, WhoGoesAwayWaitsNoMore) {
  start_asking();
  UniqueFd plain = send_connect("one.test"), ahead = send(connect_request("two.test", 443) + std::string(9000, 'x'));
  wait_held(2, 2);
  plain.reset();
  wait_held(1, 1);
  ahead.reset();
  wait_held(0, 0);
  wait_idle();
  const auto decision = last_decision(2);
  EXPECT_EQ(decision.kind, Kind::denied);
  EXPECT_THAT(decision.reason, HasSubstr("went away"));
  // One who sends without end is not read without end, and still gets the answer.
  const UniqueFd flood = send_connect("three.test");
  wait_held(1, 1);
  ::fcntl(flood.get(), F_SETFL, O_NONBLOCK);
  const std::string much(64 * 1024, 'x');
  std::size_t taken = 0;
  for (int i = 0; i < 200; ++i) {
    const auto size = ::send(flood.get(), much.data(), much.size(), MSG_NOSIGNAL);
    if (size > 0) taken += static_cast<std::size_t>(size);
    ::usleep(1000);
  }
  EXPECT_LT(taken, 2U << 20);  // what the kernel keeps, and 16 KiB
  wait_held(1, 1);
  decide({}, {HostRule::parse("three.test", "deny")});
  EXPECT_EQ(last_decision(3).cause, Cause::denied_by_rule);
}

TEST_F(Ask, TheEndOfASandboxAndOfTheProxyEndsThemAtOnce) {
  start_asking();
  const UniqueFd first = send_connect("one.test");
  wait_held(1, 1);
  egress_->forget("box");
  EXPECT_EQ(read_to_end(first.get()), "");
  EXPECT_EQ(last_decision().reason, "the sandbox is gone");
  EXPECT_TRUE(egress_->questions("box").empty());
  decide({});
  const UniqueFd second = send_connect("one.test");
  wait_held(1, 1);
  const auto begin = std::chrono::steady_clock::now();
  egress_->stop(soon());
  EXPECT_EQ(read_to_end(second.get()), "");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(3000));
}

TEST_F(Ask, OnlyNamesThatNoRuleIsAboutAreAskedFor) {
  Server server([](int) {});
  const auto port = std::to_string(server.port);
  start_asking();
  decide({plain("rebound.test:" + port)}, {HostRule::parse("evil.test", "egress.deny")});
  for (const std::string host : {"evil.test", "127.0.0.1", "2130706433", "[::1]", "8.8.8.8", "-x.test"})
    EXPECT_THAT(ask(connect_request(host, 443)), StartsWith("HTTP/1.1 403")) << host;
  // Nor is a name that leads where only a grant may: no answer of the user's is missing there.
  EXPECT_THAT(ask(connect_request("rebound.test", server.port)), HasSubstr("private or otherwise special"));
  EXPECT_TRUE(asked().empty());
  // And what was asked for is judged as everything else once it is allowed.
  const UniqueFd fd = send_connect("local.test", server.port);
  wait_held(1, 1);
  decide({plain("local.test:" + port)});
  EXPECT_THAT(read_to_end(fd.get()), HasSubstr("private or otherwise special"));
  EXPECT_EQ(server.accepted, 0);
}

TEST_F(Ask, AGuestThatAsksAndLeavesAgainAndAgainIsToldOfOnce) {
  start_asking({.notices_a_minute = 2});
  for (int i = 0; i < 20; ++i) {
    UniqueFd fd = send_connect("again.test");
    wait_held(1, 1);
    fd.reset();
    wait_held(0, 0);
  }
  {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(notices_, 1);
  }
  std::vector<UniqueFd> others;
  for (int i = 0; i < 10; ++i) others.push_back(send_connect("name" + std::to_string(i) + ".test"));
  wait_held(10, 10);
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(notices_, 2);
}

TEST_F(Ask, SixtyFourWaitAndTheOthersOfTheSandboxGoOn) {
  Server server([](int fd) { write_all(fd, "here", soon()); });
  start_asking({}, {grant("good.test:" + std::to_string(server.port))});
  std::vector<UniqueFd> held;
  for (int i = 0; i < 64; ++i) held.push_back(send_connect("name" + std::to_string(i % 16) + ".test"));
  wait_held(16, 64);
  EXPECT_THAT(ask(connect_request("name1.test", 443)), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(ask(connect_request("good.test", server.port)), EndsWith("here"));
  held.clear();
  wait_held(0, 0);
  wait_idle();
}

}  // namespace
}  // namespace agentvm::egress
