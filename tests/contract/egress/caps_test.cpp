// How much of a host a sandbox may take: what is over it is refused with 429, or ends.
#include "proxy/egress/caps.hpp"

#include "tests/contract/egress/secrets_fixture.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Kind = Decision::Kind;

class CapsTest : public SecretsTest {
 protected:
  void start_api(const std::string& answer) {
    start([this, answer](TlsPeer& peer) {
      for (auto head = peer.read_head(); head.ends_with("\r\n\r\n"); head = peer.read_head()) {
        heard_.add(head);
        peer.write(answer);
      }
    });
  }
  static std::string json_answer(const std::string& body) {
    return fmt::format("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}", body.size(),
                       body);
  }
  std::uint64_t used(std::size_t cap = 0) {
    return egress_->caps("box")->states(system_clock().unix_seconds()).at(cap).used;
  }
};

TEST_F(CapsTest, OneConnectionCarriesNoMoreRequestsThanTheCap) {
  caps_ = {"api.test:{} 3 requests/hour"};
  start_api("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  const auto made = client();
  ASSERT_EQ(made.tls->problem(), "");
  for (int i = 0; i < 3; ++i) {
    made.tls->write(request("X-Number: " + std::to_string(i) + "\r\n"));
    EXPECT_THAT(made.tls->read_head(), StartsWith("HTTP/1.1 200"));
    EXPECT_EQ(made.tls->read_exactly(2), "ok");
  }
  made.tls->write(request("X-Number: 3\r\n"));
  const auto answer = made.tls->read_to_end();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 429 Too Many Requests\r\n"));
  EXPECT_THAT(answer, testing::ContainsRegex("Retry-After: 3[56][0-9][0-9]\r\n"));
  EXPECT_THAT(answer, HasSubstr("3 requests/hour' is reached"));
  EXPECT_THAT(answer, HasSubstr("egress.caps"));
  EXPECT_THAT(heard_.text(), Not(HasSubstr("X-Number: 3")));
  const auto decision = last_decision();
  EXPECT_EQ(decision.kind, Kind::denied);
  EXPECT_EQ(decision.cause, Cause::cap);
  EXPECT_EQ(decision.requests, 3u);
  // The next connection hears it within TLS, too, and its server is asked nothing.
  EXPECT_THAT(one(request("X-Number: 4\r\n")), StartsWith("HTTP/1.1 429"));
  EXPECT_THAT(heard_.text(), Not(HasSubstr("X-Number: 4")));
  EXPECT_EQ(used(), 3u);
}

TEST_F(CapsTest, PlainRequestsAreCountedAndRefused) {
  caps_ = {"other.test:{} 2 requests/hour"};
  server_ = std::make_unique<Server>([](int fd) {
    read_head(fd);
    write_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", soon());
  });
  begin({});
  const auto target = fmt::format("other.test:{}", server_->port);
  const auto text = "GET http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\n\r\n";
  for (int i = 0; i < 2; ++i) EXPECT_THAT(ask(text), StartsWith("HTTP/1.1 200"));
  const auto answer = ask(text);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 429 Too Many Requests\r\n"));
  EXPECT_THAT(answer, HasSubstr("Retry-After: "));
  EXPECT_EQ(last_decision(3).cause, Cause::cap);
  EXPECT_EQ(server_->accepted, 2);
}

TEST_F(CapsTest, RequestsThatAreMadeAtOnceAreNoMoreThanTheCap) {
  caps_ = {"slow.test:{} 2 requests/hour"};  // all are judged before the first has its address
  server_ = std::make_unique<Server>([](int fd) {
    read_head(fd);
    write_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", soon());
  });
  begin({});
  const auto target = fmt::format("slow.test:{}", server_->port);
  std::vector<UniqueFd> made;
  for (int i = 0; i < 6; ++i) {
    made.push_back(dial());
    write_all(made.back().get(), "GET http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\n\r\n", soon());
  }
  std::map<std::string, int> answers;
  for (const auto& fd : made) ++answers[read_to_end(fd.get()).substr(0, 12)];
  EXPECT_THAT(answers,
              testing::UnorderedElementsAre(testing::Pair("HTTP/1.1 200", 2), testing::Pair("HTTP/1.1 429", 4)));
  EXPECT_EQ(used(), 2u);
}

TEST_F(CapsTest, RequestsWithASecretThatAreMadeAtOnceAreNoMoreThanTheCap) {
  caps_ = {"api.test:{} 2 requests/hour"};
  source_takes_ = milliseconds(500);
  start_api("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  std::vector<Client> made;
  for (int i = 0; i < 6; ++i) made.push_back(client());
  for (const auto& each : made) each.tls->write(request(key_header()));
  std::map<std::string, int> answers;
  for (const auto& each : made) ++answers[each.tls->read_head().substr(0, 12)];
  EXPECT_THAT(answers,
              testing::UnorderedElementsAre(testing::Pair("HTTP/1.1 200", 2), testing::Pair("HTTP/1.1 429", 4)));
  EXPECT_EQ(used(), 2u);
}

TEST_F(CapsTest, ATunnelEndsWhenItsBytesAreUsedUpAndNoOtherBegins) {
  caps_ = {"other.test:{} 64K bytes/hour"};
  server_ = std::make_unique<Server>([](int fd) {
    write_all(fd, "220 hello\r\n", soon());
    char buffer[4096];
    while (read_some(fd, buffer, sizeof buffer, soon()) > 0) write_all(fd, std::string(4096, 'x'), soon());
  });
  begin({});
  const UniqueFd fd = tunnel("other.test", server_->port);
  std::string got;
  try {
    write_all(fd.get(), "SSH-2.0-x\r\n", soon());
    char buffer[8192];
    while (const auto size = read_some(fd.get(), buffer, sizeof buffer, soon())) {
      got.append(buffer, size);
      write_all(fd.get(), "more", soon());
    }
  } catch (const Error&) {  // the proxy ended it
  }
  EXPECT_LE(got.size(), 64u * 1024 + 8192);
  EXPECT_GE(got.size(), 48u * 1024);
  const auto decision = last_decision();
  EXPECT_EQ(decision.kind, Kind::allowed);
  EXPECT_THAT(decision.reason, HasSubstr("64K bytes/hour' is reached"));
  const UniqueFd again = dial();
  write_all(again.get(), connect_request("other.test", server_->port), soon());
  EXPECT_THAT(read_to_end(again.get()), StartsWith("HTTP/1.1 429"));
}

TEST_F(CapsTest, TokensAreReadInTheAnswer) {
  caps_ = {"api.test:{} 100 tokens/day"};
  start_api(json_answer(R"({"usage":{"input_tokens":40,"output_tokens":20}})"));
  const auto made = client();
  ASSERT_EQ(made.tls->problem(), "");
  for (int i = 1; i <= 2; ++i) {
    made.tls->write(request("Accept-Encoding: gzip\r\nContent-Length: 0\r\n", "POST /v1/messages HTTP/1.1"));
    EXPECT_THAT(made.tls->read_head(), StartsWith("HTTP/1.1 200"));
    made.tls->read_exactly(48);
    for (const auto deadline = soon(); used() < 60u * i && !deadline.expired();) ::usleep(2000);
    EXPECT_EQ(used(), 60u * i);
  }
  EXPECT_THAT(heard_.text(), Not(HasSubstr("Accept-Encoding"))) << "it could not be read";
  made.tls->write(request("Content-Length: 0\r\n", "POST /v1/messages HTTP/1.1"));
  EXPECT_THAT(made.tls->read_to_end(), StartsWith("HTTP/1.1 429"));
  const auto decision = last_decision();
  EXPECT_EQ(decision.tokens, 120u);
  EXPECT_EQ(decision.requests, 2u);
}

TEST_F(CapsTest, AnswersThatSayNothingOfTokensAndFailuresCostNone) {
  caps_ = {"api.test:{} 100 tokens/day"};
  start_api("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 400\r\n\r\n" + std::string(400, 'x'));
  EXPECT_THAT(one(request("Content-Length: 0\r\nConnection: close\r\n", "POST / HTTP/1.1")),
              StartsWith("HTTP/1.1 500"));
  last_decision();
  EXPECT_EQ(used(), 0u);
}

TEST_F(CapsTest, OtherHostsAreNotCounted) {
  caps_ = {"api.test:{} 1 requests/day"};
  start_echo();
  EXPECT_EQ(client("forge.test", {"forge.test", "forge.test"}).tls->problem(), "");
  const UniqueFd fd = tunnel("other.test", server_->port);
  TlsPeer tls(fd.get(), world_->certificate_file(), {"other.test", "api.test"});
  EXPECT_EQ(tls.problem(), "");
  EXPECT_EQ(used(), 0u);
}

}  // namespace
}  // namespace agentvm::egress
