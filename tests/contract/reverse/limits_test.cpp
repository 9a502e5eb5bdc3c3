// Slow, many, and gone: nobody keeps others from being served.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/socket.h>

#include "tests/contract/reverse/fixture.hpp"

namespace agentvm::proxy {
namespace {

using testing::HasSubstr;

TEST_F(ReverseTest, ASlowHeadEnds) {
  start({.head = milliseconds(300), .keep_alive = milliseconds(300)});
  const UniqueFd silent = dial(), slow = dial(), kept = dial();
  write_all(slow.get(), "GET / HTTP/1.1\r\n", soon());
  write_all(kept.get(), fmt::format("GET / HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", proxy_->site().port), soon());
  EXPECT_EQ(status_of(read_head(kept.get())), 200);
  EXPECT_TRUE(at_end(silent.get()));
  EXPECT_TRUE(at_end(slow.get()));
  read_to_end(kept.get());
  wait_idle();
}

TEST_F(ReverseTest, IdleConnectionsGiveWayToOnesThatAsk) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("served"); }); });
  start({.connections = 40}, 2);
  route("box", {server.port});
  std::vector<UniqueFd> flood;
  for (int i = 0; i < 200; ++i) {
    flood.push_back(dial());
    write_all(flood.back().get(), "GET / HTTP/1.1\r\nX: ", soon());
    if (i % 20 == 0) {
      EXPECT_THAT(get(host("box")), HasSubstr("served")) << i;
    }
  }
  EXPECT_LE(proxy_->connection_count(), 44u);
  EXPECT_TRUE(at_end(flood.front().get()));  // the longest waiting went first
}

TEST_F(ReverseTest, OneSandboxCannotTakeAllConnections) {
  Server silent([](int fd) { read_to_end(fd); });
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("served"); }); });
  start({.upstreams_per_sandbox = 5});
  route("greedy", {silent.port});
  route("box", {server.port});
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(dial());
    write_all(clients.back().get(), fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("greedy")), soon());
  }
  for (const Deadline deadline = soon(); dials_ < 5 && !deadline.expired();) std::this_thread::yield();
  EXPECT_THAT(get(host("greedy")), HasSubstr("Too many connections"));
  EXPECT_THAT(get(host("box")), HasSubstr("served"));
  proxy_->stop(soon());
}

TEST_F(ReverseTest, ADialThatFailsOrHangsIsSaid) {
  start({.dial = milliseconds(100)});
  route("box", {1});
  const auto refused = get(host("box"));
  EXPECT_EQ(status_of(refused), 502);
  EXPECT_THAT(refused, HasSubstr("does not answer"));
  std::vector<Options::Dialled> hanging;
  std::mutex mutex;
  {
    const std::lock_guard setting(dialling_);
    dial_instead_ = [&](Options::Dialled done) {
      const std::lock_guard lock(mutex);
      hanging.push_back(std::move(done));
    };
  }
  EXPECT_EQ(status_of(get(host("box"))), 504);
  // An answer that comes when nobody waits any more, and one after the proxy's end: their connections just close.
  FdPair late = make_socketpair(), later = make_socketpair();
  {
    const std::lock_guard lock(mutex);
    ASSERT_EQ(hanging.size(), 1u);
    hanging.front()(std::move(late.second), "");
  }
  EXPECT_TRUE(at_end(late.first.get()));
  const UniqueFd client = dial();
  write_all(client.get(), fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("box")), soon());
  for (const Deadline deadline = soon(); !deadline.expired(); std::this_thread::yield()) {
    const std::lock_guard lock(mutex);
    if (hanging.size() == 2) break;
  }
  proxy_.reset();
  hanging.back()(std::move(later.second), "");
  EXPECT_TRUE(at_end(later.first.get()));
  EXPECT_TRUE(at_end(client.get()));
}

TEST_F(ReverseTest, AClientThatHasGoneIsNotAnsweredForLong) {
  Server silent([](int fd) { read_to_end(fd); });
  start({.half_closed = milliseconds(100)});
  route("box", {silent.port});
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(dial());
    write_all(clients.back().get(), fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("box")), soon());
  }
  for (const Deadline deadline = soon(); silent.accepted < 3 && !deadline.expired();) std::this_thread::yield();
  clients.pop_back();
  ::shutdown(clients[1].get(), SHUT_WR);
  EXPECT_TRUE(at_end(clients[1].get()));
  for (const Deadline deadline = soon(); proxy_->connection_count() > 1 && !deadline.expired();)
    std::this_thread::yield();
  EXPECT_EQ(proxy_->connection_count(), 1u);  // the one that still waits
  proxy_->stop(soon());
}

TEST_F(ReverseTest, AMachineThatGoesTakesItsConnectionsAlong) {
  std::atomic<bool> ended = false;
  Server silent([&](int fd) {
    read_to_end(fd);  // throws when nobody ends it
    ended = true;
  });
  start();
  route("box", {silent.port});
  const UniqueFd client = dial();
  write_all(client.get(), fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("box")), soon());
  for (const Deadline deadline = soon(); silent.accepted == 0 && !deadline.expired();) std::this_thread::yield();
  route("box", {silent.port}, 2);
  EXPECT_EQ(status_of(read_head(client.get())), 502);
  for (const Deadline deadline = soon(); !ended && !deadline.expired();) std::this_thread::yield();
  EXPECT_TRUE(ended);
}

TEST_F(ReverseTest, StoppingEndsWhateverIsOpen) {
  Server silent([](int fd) { read_to_end(fd); });
  start({}, 2);
  route("box", {silent.port});
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(dial());
    if (i % 2)
      write_all(clients.back().get(),
                fmt::format("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\nx", host("box")), soon());
  }
  for (const Deadline deadline = soon(); silent.accepted < 10 && !deadline.expired();) std::this_thread::yield();
  proxy_->stop(soon());
  for (const auto& client : clients) EXPECT_TRUE(at_end(client.get()));
  EXPECT_EQ(proxy_->connection_count(), 0u);
}

}  // namespace
}  // namespace agentvm::proxy
