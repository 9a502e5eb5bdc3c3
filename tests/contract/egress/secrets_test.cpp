// Secrets that stay on the host: a server behind TLS gets the value, the guest has never more than the placeholder.
#include "tests/contract/egress/secrets_fixture.hpp"
#include "tests/support/client_hello.hpp"
#include "tests/support/wire_cases.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Kind = Decision::Kind;

TEST_F(SecretsTest, TheServerGetsTheValueAndTheGuestHasThePlaceholderAlone) {
  start_echo();
  {
    const auto made = client();
    ASSERT_EQ(made.tls->problem(), "");
    for (int i = 0; i < 2; ++i) {
      made.tls->write(request("Authorization: Bearer " + placeholder + "\r\n" + key_header() + "User-Agent: me\r\n"));
      const auto head = made.tls->read_head();
      EXPECT_THAT(head, StartsWith("HTTP/1.1 200 OK\r\n"));
      EXPECT_THAT(head, HasSubstr("X-Answer: yes"));
      EXPECT_THAT(head, HasSubstr("Connection: keep-alive"));
      EXPECT_EQ(made.tls->read_exactly(2), "ok");
    }
    made.tls->end();
    EXPECT_EQ(made.tls->read_to_end(), "");
  }
  const std::string sent = "GET / HTTP/1.1\r\n" + host_line() + "Authorization: Bearer " + value +
                           "\r\nx-api-key: " + value + "\r\nUser-Agent: me\r\nConnection: keep-alive\r\n\r\n";
  EXPECT_EQ(heard_.text(), sent + sent);
  EXPECT_EQ(greeted_, 1);
  EXPECT_EQ(reads_, 1);
  const auto decision = last_decision();
  EXPECT_EQ(decision.kind, Kind::allowed);
  EXPECT_TRUE(decision.announced);
  EXPECT_EQ(decision.bytes_down, 4u);
}

TEST_F(SecretsTest, WhoSendsNoPlaceholderGetsNothingAdded) {
  start_echo();
  EXPECT_THAT(one(request("Authorization: Bearer mine\r\nConnection: close\r\n")), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(heard_.text(), HasSubstr("Authorization: Bearer mine\r\n"));
  EXPECT_EQ(reads_, 0);
}

TEST_F(SecretsTest, OtherHostsTlsPassesUnread) {
  start_echo();
  // The server is not asked for that name: its own certificate comes through, which the guest does not believe.
  EXPECT_EQ(client("other.test", {"other.test"}).tls->problem(), "certificate verify failed");
  const UniqueFd fd = tunnel("other.test", server_->port);
  trusted_ = world_->certificate_file();
  TlsPeer tls(fd.get(), trusted_, {"other.test", "api.test"});
  ASSERT_EQ(tls.problem(), "");
  tls.write("GET / HTTP/1.1\r\nHost: other.test\r\n" + key_header() + "\r\n");
  EXPECT_THAT(tls.read_head(), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(heard_.text(), HasSubstr(placeholder));
  EXPECT_EQ(reads_, 0);
}

TEST_F(SecretsTest, ARequestForAnotherHostNeverLeaves) {
  start_echo();
  for (const auto& host : {std::string("other.test"), std::string("api.test"), std::string("api.test:1"),
                           fmt::format("other.test:{}", server_->port), fmt::format("x.api.test:{}", server_->port)}) {
    const auto answer = one("GET / HTTP/1.1\r\nHost: " + host + "\r\n" + key_header() + "\r\n");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 421 Misdirected Request\r\n")) << host;
  }
  EXPECT_EQ(heard_.text(), "");
  EXPECT_EQ(reads_, 0);
  const auto decision = last_decision(5);
  EXPECT_EQ(decision.kind, Kind::denied);
  EXPECT_EQ(decision.cause, Cause::other_name);
  EXPECT_FALSE(decision.announced);
}

TEST_F(SecretsTest, TlsForAnotherNameThanTheTunnelsNeverLeaves) {
  start_echo();
  EXPECT_THAT(client("api.test", {"forge.test"}).tls->problem(), HasSubstr("unrecognized name"));
  EXPECT_EQ(last_decision().cause, Cause::other_name);
  const auto fd = tunnel("api.test", server_->port);
  write_all(fd.get(), test::client_hello(std::nullopt), soon());
  EXPECT_EQ(read_to_end(fd.get()), std::string("\x15\x03\x03\x00\x02\x02\x70", 7));
  EXPECT_EQ(last_decision(2).kind, Kind::denied);
  EXPECT_EQ(greeted_, 0);
}

TEST_F(SecretsTest, WhatIsNoTlsGetsNoSecret) {
  start_echo();
  for (const std::string& bytes : {request(key_header()), std::string("SSH-2.0-x\r\n")}) {
    const auto fd = tunnel("api.test", server_->port);
    write_all(fd.get(), bytes, soon());
    EXPECT_THAT(read_to_end(fd.get()), HasSubstr("TLS to this host is ended here, and this is none"));
  }
  EXPECT_EQ(last_decision(2).kind, Kind::denied);
  EXPECT_EQ(heard_.text(), "");
}

TEST_F(SecretsTest, AServerThatIsNotBelievedHearsNothing) {
  const auto stranger = proxy::Authority::open(folder_ / "stranger", "test", system_clock());
  struct Case {
    std::string shown;
    std::shared_ptr<proxy::Authority> by;
    std::string said;
  };
  std::size_t count = 0;
  for (const Case& each : {Case{"api.test", stranger, "its certificate is not believed: "},
                           Case{"evil.test", nullptr, "its certificate is not believed: hostname mismatch"}}) {
    start([this](TlsPeer& peer) { heard_.add(peer.read_head()); }, each.shown, {}, each.by);
    const auto answer = one(request(key_header()));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 502 Bad Gateway\r\n"));
    EXPECT_THAT(answer, HasSubstr(each.said));
    EXPECT_THAT(answer, Not(HasSubstr(value)));
    const auto decision = last_decision(++count);
    EXPECT_EQ(decision.kind, Kind::failed);
    EXPECT_THAT(decision.reason, HasSubstr(each.said));
    egress_.reset();
    server_.reset();
  }
  EXPECT_EQ(heard_.text(), "");
  EXPECT_EQ(reads_, 0);
}

TEST_F(SecretsTest, ASourceThatFailsIsNamedAndTheRequestStays) {
  start_echo();
  source_problem_ = "its command ended with exit status 1";
  const auto answer = one(request(key_header()));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 502 Bad Gateway\r\n"));
  EXPECT_THAT(answer, HasSubstr("the secret API_KEY cannot be read on the host: its command ended with exit status 1"));
  EXPECT_THAT(answer, HasSubstr("egress.secrets"));
  EXPECT_EQ(heard_.text(), "");
  EXPECT_EQ(last_decision().kind, Kind::failed);
}

TEST_F(SecretsTest, APlaceholderGoesNowhereElse) {
  start_echo();
  const auto refused = [this](const std::string& answer, const char* said) {
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 403 Forbidden\r\n"));
    EXPECT_THAT(answer, HasSubstr(said));
    EXPECT_THAT(answer, Not(HasSubstr(placeholder)));
  };
  refused(one(request("Authorization: " + other_placeholder + "\r\n")), "FORGE is sent to api.test");
  refused(one(request("User-Agent: " + placeholder + "\r\n")), "another header");
  refused(one(request("", "GET /?key=" + placeholder + " HTTP/1.1")), "stands in the path");
  // In plain requests, also to hosts that would be refused anyway, and to its own.
  const auto plain = [this](const std::string& host) {
    return ask(fmt::format("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n", host) + key_header() + "\r\n");
  };
  refused(plain("evil.test"), "API_KEY is sent to evil.test:80, which is none of its hosts");
  refused(plain(fmt::format("api.test:{}", server_->port)), "API_KEY is sent without TLS");
  const auto fd = tunnel("other.test", server_->port);
  write_all(fd.get(), fmt::format("GET / HTTP/1.1\r\nHost: other.test:{}\r\n", server_->port) + key_header() + "\r\n",
            soon());
  refused(read_to_end(fd.get()), "API_KEY is sent to other.test");
  const auto decision = last_decision(6);
  EXPECT_EQ(decision.kind, Kind::denied);
  EXPECT_EQ(decision.cause, Cause::placeholder);
  EXPECT_EQ(heard_.text(), "");
  EXPECT_EQ(reads_, 0);
}

TEST_F(SecretsTest, ASecretIsForItsRequestsAlone) {
  requests_ = {RequestRule::parse("GET,HEAD /v1/*")};
  start_echo();
  for (const char* line : {"POST /v1/messages HTTP/1.1", "GET /v2/models HTTP/1.1", "GET /v1/../v2/models HTTP/1.1"}) {
    const auto answer = one(request(key_header(), line));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 403 Forbidden\r\n")) << line;
    EXPECT_THAT(answer, HasSubstr("API_KEY may be used for GET,HEAD /v1/* alone")) << line;
  }
  EXPECT_EQ(last_decision(3).cause, Cause::placeholder);
  EXPECT_EQ(heard_.text(), "");
  EXPECT_EQ(reads_, 0);
  one(request(key_header() + "Connection: close\r\n", "GET /v1/models?limit=5 HTTP/1.1"));
  EXPECT_THAT(heard_.text(), HasSubstr("x-api-key: " + value));
  one(request("Connection: close\r\n", "POST /v2/anything HTTP/1.1"));
  EXPECT_THAT(heard_.text(), HasSubstr("POST /v2/anything HTTP/1.1"))
      << "without the placeholder there is no key to limit";
}

TEST_F(SecretsTest, BodiesPassInPiecesBothWays) {
  constexpr std::size_t size = 1u << 20;
  start([this](TlsPeer& peer) {
    for (auto head = peer.read_head(); head.ends_with("\r\n\r\n"); head = peer.read_head()) {
      heard_.add(head);
      const auto body = head.find("chunked") == head.npos ? peer.read_exactly(size) : peer.read_chunked();
      peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      for (std::size_t at = 0; at < body.size(); at += 10'000) {
        const auto piece = body.substr(at, 10'000);
        peer.write(fmt::format("{:x}\r\n{}\r\n", piece.size(), piece));
      }
      peer.write("0\r\n\r\n");
    }
  });
  std::string body(size, '\0');
  for (std::size_t i = 0; i < size; ++i) body[i] = static_cast<char>(i * 31 >> 3);
  const auto made = client();
  made.tls->write(request(key_header() + "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "POST / HTTP/1.1"));
  for (std::size_t at = 0; at < size; at += 30'000) {
    const auto piece = body.substr(at, 30'000);
    made.tls->write(fmt::format("{:x}\r\n{}\r\n", piece.size(), piece));
  }
  made.tls->write("0\r\n\r\n");
  EXPECT_THAT(made.tls->read_head(), HasSubstr("Transfer-Encoding: chunked"));
  EXPECT_TRUE(made.tls->read_chunked() == body);
  made.tls->write(request(fmt::format("Content-Length: {}\r\n", size), "PUT / HTTP/1.1"));
  made.tls->write(body);
  made.tls->read_head();
  EXPECT_TRUE(made.tls->read_chunked() == body);
  EXPECT_THAT(heard_.text(), HasSubstr("Expect: 100-continue"));
  made.tls->end();
  EXPECT_EQ(made.tls->read_to_end(), "");
  const auto decision = last_decision();
  EXPECT_EQ(decision.bytes_up, 2 * size);
  EXPECT_EQ(decision.bytes_down, 2 * size);
}

TEST_F(SecretsTest, AServerThatWaitsForTheBodySaysSo) {
  start([](TlsPeer& peer) {
    peer.read_head();
    peer.write("HTTP/1.1 100 Continue\r\n\r\n");
    peer.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n" + peer.read_exactly(4));
  });
  const auto made = client();
  made.tls->write(request("Content-Length: 4\r\nExpect: 100-continue\r\n", "POST / HTTP/1.1"));
  EXPECT_EQ(made.tls->read_head(), "HTTP/1.1 100 Continue\r\n\r\n");
  made.tls->write("body");
  EXPECT_THAT(made.tls->read_to_end(), testing::EndsWith("Connection: close\r\n\r\nbody"));
}

TEST_F(SecretsTest, AWebsocketPassesBothWays) {
  start([this](TlsPeer& peer) {
    heard_.add(peer.read_head());
    peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello");
    peer.write(peer.read_exactly(4) + "!");
    peer.end();
    heard_.add(peer.read_to_end());
  });
  const auto made = client();
  made.tls->write(request(key_header() + "Connection: Upgrade\r\nUpgrade: websocket\r\n"));
  EXPECT_THAT(made.tls->read_head(), StartsWith("HTTP/1.1 101"));
  EXPECT_EQ(made.tls->read_exactly(5), "hello");
  made.tls->write("ping");
  EXPECT_EQ(made.tls->read_to_end(), "ping!");
  made.tls->write("last");
  made.tls->end();
  for (const Deadline deadline = soon(); !heard_.text().ends_with("last") && !deadline.expired();) ::usleep(2000);
  EXPECT_THAT(heard_.text(), HasSubstr("x-api-key: " + value));
  EXPECT_THAT(heard_.text(), testing::EndsWith("last"));
  wait_idle();
}

/// One request, one meaning: a message of the corpus never becomes two, and a refused one never reaches the server.
TEST_F(SecretsTest, NoDesyncCasePassesAsTwo) {
  for (const auto& wire : test::read_wire_cases(DESYNC_CASES)) {
    if (wire.side != "request") continue;
    std::atomic<int> heads = 0;
    start([&heads](TlsPeer& peer) {
      while (peer.read_head().ends_with("\r\n\r\n")) {
        ++heads;
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
      }
    });
    auto bytes = wire.bytes;
    const auto here = fmt::format("api.test:{}", server_->port);
    const std::string there = "box.localhost:8080";
    for (std::size_t at = 0; (at = bytes.find(there, at)) != bytes.npos; at += here.size())
      bytes.replace(at, there.size(), here);
    auto made = client();
    made.tls->write(bytes);
    const auto first = made.tls->read_head();
    const bool body = wire.expect.starts_with("body ");
    if (wire.expect.starts_with("accept")) {
      EXPECT_THAT(first, StartsWith("HTTP/1.1 200")) << wire.name;
    } else {
      if (!body || !first.starts_with("HTTP/1.1 200")) {
        EXPECT_THAT(first, StartsWith("HTTP/1.1 " + wire.expect.substr(body ? 5 : 0))) << wire.name;
      }
      EXPECT_THAT(made.tls->read_to_end(), Not(HasSubstr("HTTP/1.1 200"))) << wire.name;
    }
    made = {};
    egress_.reset();
    server_.reset();
    if (!body && !wire.expect.starts_with("accept")) {
      EXPECT_EQ(heads, 0) << wire.name;
    }
  }
}

TEST_F(SecretsTest, AnAnswerThatIsNoneOrBreaksOffIsNotTakenForWhole) {
  std::string answer;
  start([&answer](TlsPeer& peer) {
    peer.read_head();
    peer.write(answer);
    peer.end();
  });
  for (const char* broken :
       {"nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", ""}) {
    answer = broken;
    EXPECT_THAT(one(request()), StartsWith("HTTP/1.1 502 Bad Gateway\r\n")) << broken;
  }
  answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
  EXPECT_THAT(one(request()), testing::EndsWith("half<cut>"));
  answer = "HTTP/1.1 200 OK\r\n\r\nuntil the end";
  EXPECT_THAT(one(request()), testing::EndsWith("\r\n\r\nd\r\nuntil the end\r\n0\r\n\r\n"));
}

TEST_F(SecretsTest, AServerThatClosesInBetweenIsToldOf) {
  start([](TlsPeer& peer) {
    peer.read_head();
    peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    ::usleep(100'000);
    peer.end();
  });
  const auto made = client();
  made.tls->write(request());
  EXPECT_THAT(made.tls->read_to_end(), testing::EndsWith("Connection: keep-alive\r\n\r\nok"));
}

TEST_F(SecretsTest, WhoIsSlowIsNotWaitedFor) {
  start([](TlsPeer& peer) { peer.read_head(); }, "api.test", {.head = milliseconds(500)});
  const auto begun = std::chrono::steady_clock::now();
  const auto silent = tunnel("api.test", server_->port);  // no TLS at all
  const auto made = client();
  made.tls->write("GET / HTTP/1.1\r\nHost: ap");
  EXPECT_EQ(made.tls->read_to_end(), "<cut>");
  EXPECT_EQ(read_to_end(silent.get()), "");
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(8));
  EXPECT_THAT(last_decision(2).reason, HasSubstr("in time"));
}

TEST_F(SecretsTest, OnlyHttp11IsSpoken) {
  start_echo();
  EXPECT_THAT(client("api.test", {"api.test", "", std::string("\x02h2", 3)}).tls->problem(),
              HasSubstr("no application protocol"));
  const auto made = client("api.test", {"api.test", "", std::string("\x02h2\x08http/1.1", 12)});
  ASSERT_EQ(made.tls->problem(), "");
  made.tls->write(request("Connection: close\r\n"));
  EXPECT_THAT(made.tls->read_to_end(), StartsWith("HTTP/1.1 200"));
}

TEST_F(SecretsTest, AProgramThatDoesNotTrustTheAuthorityIsNamedInTheJournal) {
  start_echo();
  trusted_ = world_->certificate_file();
  EXPECT_EQ(client().tls->problem(), "certificate verify failed");
  const auto decision = last_decision();
  EXPECT_EQ(decision.kind, Kind::failed);
  EXPECT_THAT(decision.reason, HasSubstr("breaks off TLS, which is ended here for secrets"));
}

TEST_F(SecretsTest, ThroughSocksToo) {
  start_echo();
  const UniqueFd fd = dial();
  std::string bytes(
      "\x05\x01\x00\x05\x01\x00\x03\x08"
      "api.test",
      16);
  bytes += static_cast<char>(server_->port >> 8);
  bytes += static_cast<char>(server_->port & 0xff);
  write_all(fd.get(), bytes, soon());
  std::string answer(12, '\0');
  for (std::size_t have = 0; have < answer.size();)
    have += read_some(fd.get(), answer.data() + have, answer.size() - have, soon());
  TlsPeer tls(fd.get(), trusted_, {"api.test"});
  ASSERT_EQ(tls.problem(), "");
  tls.write(request(key_header() + "Connection: close\r\n"));
  EXPECT_THAT(tls.read_to_end(), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(heard_.text(), HasSubstr("x-api-key: " + value));
}

TEST_F(SecretsTest, WithoutAnAuthorityThereIsNoConnection) {
  start_echo();
  auto set = std::make_shared<SecretSet>();
  set->uses = {{"API_KEY", placeholder, {HostRule::parse(fmt::format("api.test:{}", server_->port), "")}, {}}};
  set->no_authority = "the authority cannot be read";
  egress_->set_secrets("box", set);
  EXPECT_THAT(ask(connect_request("api.test", server_->port)), HasSubstr("the authority cannot be read"));
  EXPECT_EQ(server_->accepted, 0);
}

}  // namespace
}  // namespace agentvm::egress
