// https to dev servers: certificates for names that are ours, and HTTP within them as without.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/contract/reverse/tls_client.hpp"

namespace agentvm::proxy {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* websocket =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const std::string http_1_1("\x08http/1.1"), h2("\x02h2");

TEST_F(TlsTest, EveryNameHasACertificateThatTheAuthorityVouchesFor) {
  Server server([](int fd) { serve_each(fd, [](auto& head, auto&) { return answer_with(head); }); });
  begin();
  route("box", {server.port});
  for (const auto& name : {std::string("box.localhost"), fmt::format("{}.box.localhost", server.port)})
    EXPECT_THAT(get_tls(name), AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("X-Forwarded-Proto: https\r\n"),
                                     HasSubstr(fmt::format("Host: {}:{}\r\n", name, proxy_->site().port))));
  const auto index = fmt::format("https://{}.{}/", server.port, host("box"));
  EXPECT_THAT(get_tls("localhost"), AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("href=\"" + index)));
  EXPECT_THAT(get_tls("localhost", "Accept: application/json\r\n"), HasSubstr("\"url\":\"" + index));
  EXPECT_EQ(proxy_->site().url(), fmt::format("https://localhost:{}/", proxy_->site().port));
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto connection =
        client(TlsClient::Wish{.name = "BOX.localhost", .most = version, .protocols = h2 + http_1_1});
    ASSERT_EQ(connection->problem(), "");
    EXPECT_EQ(SSL_version(connection->session()), version);
    const unsigned char* chosen = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(connection->session(), &chosen, &size);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(chosen), size), "http/1.1");
  }
}

TEST_F(TlsTest, NamesThatAreNotOursGetNoCertificate) {
  Server server([](int) {});
  begin();
  route("box", {server.port});
  for (const char* name : {"", "nobody.localhost", "3000.nobody.localhost", "evil.example",
                           "box.localhost.evil.example", "xlocalhost", "box_.localhost", "a.b.c.box.localhost"})
    EXPECT_THAT(client(name)->problem(), HasSubstr("unrecognized name")) << name;
  EXPECT_EQ(authority_->leaf_count(), 0u);
  proxy_->routes().change([](Routes& all) { all.erase("box"); });
  EXPECT_THAT(client("box.localhost")->problem(), HasSubstr("unrecognized name"));
  EXPECT_EQ(server.accepted, 0);
}

TEST_F(TlsTest, NothingOlderThanTls12IsSpoken) {
  begin();
  for (const int version : {TLS1_VERSION, TLS1_1_VERSION})
    EXPECT_THAT(client(TlsClient::Wish{.name = "localhost", .least = version, .most = version})->problem(),
                HasSubstr("protocol version"));
  EXPECT_EQ(client(TlsClient::Wish{.name = "localhost", .least = TLS1_VERSION})->problem(), "");
}

TEST_F(TlsTest, NoOtherProtocolThanHttp11IsAgreedOn) {
  begin();
  EXPECT_THAT(client(TlsClient::Wish{.name = "localhost", .protocols = h2})->problem(),
              HasSubstr("no application protocol"));
}

TEST_F(TlsTest, NoSessionIsResumed) {
  begin();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto first = client(TlsClient::Wish{.name = "localhost", .most = version});
    first->write(request("localhost"));
    EXPECT_EQ(status_of(first->read_head()), 200);
    SSL_SESSION* const session = SSL_get1_session(first->session());
    const auto second = client(TlsClient::Wish{.name = "localhost", .most = version, .resume = session});
    EXPECT_EQ(second->problem(), "");
    EXPECT_EQ(SSL_session_reused(second->session()), 0);
    SSL_SESSION_free(session);
  }
}

TEST_F(TlsTest, AConnectionServesTheNameThatItWasMadeFor) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("secret"); }); });
  begin();
  route("box", {server.port});
  route("other", {server.port});
  const auto connection = client("other.localhost");
  connection->write(request("box.localhost"));
  EXPECT_EQ(status_of(connection->read_head()), 421);
  EXPECT_EQ(server.accepted, 0);
}

TEST_F(TlsTest, PlainHttpIsToldTheAddress) {
  Server server([](int) {});
  begin();
  route("box", {server.port});
  for (const auto& name : {host("box"), host(server.port), fmt::format("localhost:{}", proxy_->site().port)})
    for (const char* method : {"GET", "HEAD"})
      EXPECT_THAT(ask(fmt::format("{} /a?b=%20c HTTP/1.1\r\nHost: {}\r\n\r\n", method, name)),
                  AllOf(StartsWith("HTTP/1.1 308 "), HasSubstr(fmt::format("Location: https://{}/a?b=%20c\r\n", name)),
                        HasSubstr("Cache-Control: no-store\r\n"), HasSubstr("Connection: close\r\n")));
  EXPECT_THAT(ask(fmt::format("GET //evil.example HTTP/1.1\r\nHost: {}\r\n\r\n", host("box"))),
              HasSubstr(fmt::format("Location: https://{}//evil.example\r\n", host("box"))));
  for (const auto& text : {std::string("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
                           fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("nobody")),
                           fmt::format("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 3\r\n\r\nabc", host("box"))})
    EXPECT_THAT(ask(text), AllOf(StartsWith("HTTP/1.1 400 "), HasSubstr("speaks https"), Not(HasSubstr("Location"))));
  EXPECT_EQ(status_of(ask("nonsense\r\n\r\n")), 400);
  EXPECT_EQ(server.accepted, 0);
}

TEST_F(TlsTest, RequestsFollowEachOther) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto& body) { return answer_with(body); }); });
  begin();
  route("box", {server.port});
  const auto connection = client("box.localhost");
  for (const std::size_t size : {1u, 70'000u, 0u, 1'000'000u}) {
    const std::string body(size, 'x');
    connection->write(
        fmt::format("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{}", host("box"), size, body));
    EXPECT_EQ(status_of(connection->read_head()), 200) << size;
    EXPECT_EQ(connection->read_exactly(size), body);
  }
  EXPECT_EQ(server.accepted, 1);
}

TEST_F(TlsTest, AWebsocketEchoes) {
  const Program echo("echo_websocket.py");
  begin();
  route("box", {echo.port});
  const auto connection = client("box.localhost");
  const std::string frame("\x81\x85\x01\x02\x03\x04igohn", 11);
  connection->write(request("box.localhost", fmt::format("{}Origin: https://{}\r\n", websocket, host("box"))) + frame);
  EXPECT_THAT(connection->read_head(), StartsWith("HTTP/1.1 101"));
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(connection->read_exactly(7), std::string("\x81\x05hello"));
    connection->write(frame);
  }
}

TEST_F(TlsTest, APlainPageIsFromElsewhere) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("yes"); }); });
  begin();
  route("box", {server.port});
  const auto asks = [&](const std::string& origin) {
    return status_of(get_tls("box.localhost", fmt::format("{}Origin: {}\r\n", websocket, origin)));
  };
  EXPECT_EQ(asks("https://" + host("box")), 200);
  EXPECT_EQ(asks("https://" + host(1234)), 200);
  EXPECT_EQ(asks("http://" + host("box")), 403);
  EXPECT_EQ(asks("https://" + host("other")), 403);
  EXPECT_EQ(asks("https://evil.example"), 403);
  EXPECT_EQ(server.accepted, 2);
}

TEST_F(TlsTest, ATunnelClosesOneDirectionAtATime) {
  Server server(serve_until_half_closed);
  begin();
  route("box", {server.port});
  const auto connection = client("box.localhost");
  connection->write(request("box.localhost", websocket));
  EXPECT_EQ(status_of(connection->read_head()), 101);
  connection->write("all of it");
  connection->end();
  EXPECT_EQ(connection->read_to_end(), "got all of it");
}

TEST_F(TlsTest, AGuestsOwnNumberSpeaksItToo) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("yes"); }); });
  begin({}, SamePort::on);
  {
    const std::lock_guard lock(dialling_);
    dial_instead_ = [&](Options::Dialled done) { done(connect_to(server.port), ""); };
  }
  std::uint16_t number = 0;
  for (std::uint16_t tried = 20'000; number == 0 && tried < 20'100; ++tried) {
    route("box", {tried});
    if (proxy_->routes().snapshot()->at("box").ports.at(0).same_port) number = tried;
  }
  ASSERT_NE(number, 0);
  const auto name = fmt::format("box.localhost:{}", number);
  EXPECT_EQ(proxy_->site().same_port_url("box", number), "https://" + name + "/");
  const auto ask_there = [&](const std::string& asked) {
    return TlsClient(number, authority_->certificate_file(), {asked}).problem();
  };
  EXPECT_THAT(ask_there("localhost"), HasSubstr("unrecognized name"));
  EXPECT_THAT(ask_there(fmt::format("{}.box.localhost", number)), HasSubstr("unrecognized name"));
  TlsClient connection(number, authority_->certificate_file(), {"box.localhost"});
  ASSERT_EQ(connection.problem(), "");
  connection.write(fmt::format("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", name));
  EXPECT_THAT(connection.read_to_end(), testing::EndsWith("yes"));
  const UniqueFd plain = connect_to(number);
  write_all(plain.get(), fmt::format("GET /a HTTP/1.1\r\nHost: {}\r\n\r\n", name), soon());
  EXPECT_THAT(read_to_end(plain.get()), HasSubstr("Location: https://" + name + "/a\r\n"));
}

}  // namespace
}  // namespace agentvm::proxy
