// What a tunnel carries agrees with the name that it was opened for, or does not pass.
#include "tests/contract/egress/fixture.hpp"
#include "tests/support/client_hello.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Kind = Decision::Kind;

/// Keeps all that reaches it, answering nothing.
struct Sink {
  Heard heard;
  Server server{[this](int fd) { heard.add_all(fd); }};
  std::string text() { return heard.text(); }
};

TEST_F(EgressTest, TlsForTheNameOfTheTunnelPassesUnchanged) {
  Sink sink;
  start({grant("good.test:" + std::to_string(sink.server.port))});
  const auto fd = tunnel("good.test", sink.server.port);
  const auto hello = test::client_hello("good.test") + "more";
  for (const char c : hello) {  // in as many pieces as there are bytes
    write_all(fd.get(), std::string_view(&c, 1), soon());
    ::usleep(500);
  }
  for (const Deadline deadline = soon(); sink.text().size() < hello.size() && !deadline.expired();) ::usleep(2000);
  EXPECT_EQ(sink.text(), hello);
  EXPECT_EQ(opened_, 1);
}

TEST_F(EgressTest, TlsForAnotherNameNeverLeaves) {
  Sink sink;
  start({grant("good.test:" + std::to_string(sink.server.port))});
  std::size_t count = 0;
  for (const auto& hello : {test::client_hello("evil.test"), test::client_hello(std::nullopt),
                            test::client_hello("good.test", test::tls_extension(0xfe0d, "x")),
                            test::tls_record("\x01\xff\xff\xff"), std::string("\x16\x02\x00")}) {
    const auto fd = tunnel("good.test", sink.server.port);
    write_all(fd.get(), hello, soon());
    // A TLS alert that says "unrecognized name", and the end.
    EXPECT_EQ(read_to_end(fd.get()), std::string("\x15\x03\x03\x00\x02\x02\x70", 7));
    const auto decision = last_decision(++count);
    EXPECT_EQ(decision.kind, Kind::denied);
    EXPECT_EQ(decision.cause, Cause::other_name);
    EXPECT_EQ(decision.bytes_up, 0u);
    EXPECT_FALSE(decision.announced);
  }
  EXPECT_THAT(decisions_.front().reason, HasSubstr("TLS asks for evil.test"));
  EXPECT_EQ(sink.text(), "");
  EXPECT_EQ(opened_, 0);
}

TEST_F(EgressTest, APlainRequestInATunnelIsOneForItsHostAndTheLast) {
  std::mutex mutex;
  std::string seen;
  Server server([&](int fd) {
    std::string text = read_head(fd);
    write_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", soon());
    pollfd more{fd, POLLIN, 0};
    if (::poll(&more, 1, 150) > 0) text += "MORE";
    const std::lock_guard lock(mutex);
    seen = text;
  });
  start({grant("good.test:" + std::to_string(server.port))});
  const auto fd = tunnel("good.test", server.port);
  const std::string host = "Host: good.test:" + std::to_string(server.port) + "\r\n";
  write_all(fd.get(), "GET /a HTTP/1.1\r\n" + host + "\r\nGET /b HTTP/1.1\r\nHost: evil.test\r\n\r\n", soon());
  EXPECT_THAT(read_to_end(fd.get()), testing::EndsWith("\r\n\r\nok"));
  wait_idle();
  {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(seen, "GET /a HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n");
  }
  EXPECT_EQ(last_decision().kind, Kind::allowed);
}

TEST_F(EgressTest, APlainRequestForAnotherHostNeverLeaves) {
  Sink sink;
  start({grant("good.test:" + std::to_string(sink.server.port))});
  const auto ask_inside = [&](const std::string& text) {
    const auto fd = tunnel("good.test", sink.server.port);
    write_all(fd.get(), text, soon());
    return read_to_end(fd.get());
  };
  const auto refused = ask_inside("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 403 Forbidden"));
  EXPECT_THAT(refused, HasSubstr("names another host"));
  EXPECT_EQ(last_decision().cause, Cause::other_name);
  EXPECT_THAT(ask_inside("GET / HTTP/1.1\r\nHost: good.test\r\nHost: evil.test\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_EQ(last_decision(2).kind, Kind::malformed);
  EXPECT_THAT(ask_inside("GET http://evil.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_EQ(ask_inside("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "");
  EXPECT_EQ(ask_inside("\r\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"), "");
  EXPECT_EQ(sink.text(), "");
}

TEST_F(EgressTest, AServerMaySpeakFirst) {
  Server server([](int fd) {
    write_all(fd, "220 welcome\r\n", soon());
    write_all(fd, "got " + read_to_end(fd), soon());
  });
  start({grant("mail.test:" + std::to_string(server.port))});
  const auto fd = tunnel("mail.test", server.port);
  std::string line(13, '\0');
  for (std::size_t have = 0; have < line.size();)
    have += read_some(fd.get(), line.data() + have, line.size() - have, soon());
  EXPECT_EQ(line, "220 welcome\r\n");
  write_all(fd.get(), "QUIT\r\n", soon());
  ::shutdown(fd.get(), SHUT_WR);
  EXPECT_EQ(read_to_end(fd.get()), "got QUIT\r\n");
}

TEST_F(EgressTest, AClientMaySayNothing) {
  Server server([](int fd) { write_all(fd, "here" + read_to_end(fd), soon()); });
  start({grant("time.test:" + std::to_string(server.port))});
  const auto fd = tunnel("time.test", server.port);
  ::shutdown(fd.get(), SHUT_WR);
  EXPECT_EQ(read_to_end(fd.get()), "here");
}

TEST_F(EgressTest, AnUnfinishedFirstMessageEndsAtTheDeadline) {
  Sink sink;
  start({grant("good.test:" + std::to_string(sink.server.port))}, {.head = milliseconds(300)});
  const auto begin = std::chrono::steady_clock::now();
  const auto hello = test::client_hello("good.test");
  const auto tls = tunnel("good.test", sink.server.port), plain = tunnel("good.test", sink.server.port);
  write_all(tls.get(), hello.substr(0, 40), soon());
  write_all(plain.get(), "GET / HT", soon());
  EXPECT_EQ(read_to_end(tls.get()), "");
  EXPECT_EQ(read_to_end(plain.get()), "");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(2000));
  EXPECT_EQ(sink.text(), "");
}

}  // namespace
}  // namespace agentvm::egress
