// Slow, cut and gone within TLS: as without it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/socket.h>

#include "tests/contract/reverse/tls_client.hpp"

namespace agentvm::proxy {
namespace {

using testing::HasSubstr;

TEST_F(TlsTest, ASlowHandshakeEnds) {
  begin({.head = milliseconds(300)});
  const UniqueFd silent = dial(), slow = dial();
  write_all(slow.get(), std::string("\x16\x03\x01\x02", 4), soon());
  for (const Deadline deadline = soon(); proxy_->connection_count() < 2 && !deadline.expired();)
    std::this_thread::yield();
  EXPECT_EQ(proxy_->connection_count(), 2u);
  EXPECT_TRUE(at_end(silent.get()));
  EXPECT_TRUE(at_end(slow.get()));
  // Nor does one that was quick have more for its request.
  const auto quick = client("localhost");
  ASSERT_EQ(quick->problem(), "");
  EXPECT_EQ(quick->read_to_end(), "<cut>");
  wait_idle();
}

TEST_F(TlsTest, HandshakesThatWaitGiveWay) {
  begin({.connections = 20});
  std::vector<UniqueFd> flood;
  for (int i = 0; i < 100; ++i) {
    flood.push_back(dial());
    write_all(flood.back().get(), std::string("\x16\x03\x01\x02", 4), soon());
  }
  EXPECT_EQ(status_of(get_tls("localhost")), 200);
  for (const Deadline deadline = soon(); proxy_->connection_count() > 20 && !deadline.expired();)
    std::this_thread::yield();
  EXPECT_LE(proxy_->connection_count(), 20u);
}

TEST_F(TlsTest, NonsenseEnds) {
  begin();
  const UniqueFd fd = dial();
  write_all(fd.get(), "\x16" + std::string(4096, 'x'), soon());
  EXPECT_LE(read_to_end(fd.get()).size(), 16u);  // an alert at most
  wait_idle();
}

/// The end of a bare connection is not the client's word: what it cut is not passed on as whole.
TEST_F(TlsTest, ACutConnectionIsNoEnd) {
  SharedText got;
  Server server([&](int fd) {
    read_head(fd);
    write_all(fd, "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", soon());
    got = read_to_end(fd);
    write_all(fd, "late", soon());
  });
  begin();
  route("box", {server.port});
  const auto connection = client("box.localhost");
  connection->write(request("box.localhost", "Connection: Upgrade\r\nUpgrade: websocket\r\n"));
  EXPECT_EQ(status_of(connection->read_head()), 101);
  ::shutdown(connection->fd(), SHUT_WR);
  EXPECT_EQ(connection->read_to_end(), "<cut>");
  wait_idle();
}

TEST_F(TlsTest, AClientThatWentIsNotWaitedFor) {
  Server silent([](int fd) { read_to_end(fd); });
  begin({.half_closed = milliseconds(200)});
  route("box", {silent.port});
  for (const bool says_so : {true, false}) {
    const auto connection = client("box.localhost");
    connection->write(request("box.localhost"));
    for (const Deadline deadline = soon(); silent.accepted < (says_so ? 1 : 2) && !deadline.expired();)
      std::this_thread::yield();
    if (says_so)
      connection->end();
    else
      ::shutdown(connection->fd(), SHUT_RDWR);
    wait_idle();
  }
}

TEST_F(TlsTest, AnAnswerThatBreaksOffIsNotTakenForWhole) {
  Server server([](int fd) {
    read_head(fd);
    write_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart", soon());
  });
  begin();
  route("box", {server.port});
  EXPECT_THAT(get_tls("box.localhost"), HasSubstr("<cut>"));
}

TEST_F(TlsTest, ManyAtATime) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with(std::string(100'000, 'y')); }); });
  begin();
  route("box", {server.port});
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      const auto connection = client("box.localhost");
      for (int j = 0; j < 20; ++j) {
        connection->write(request("box.localhost"));
        if (status_of(connection->read_head()) == 200 && connection->read_exactly(100'000).size() == 100'000) ++good;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 160);
  EXPECT_EQ(authority_->leaf_count(), 1u);
}

}  // namespace
}  // namespace agentvm::proxy
