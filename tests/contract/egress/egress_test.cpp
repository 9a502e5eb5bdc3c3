// The proxy as a guest's programs use it: tunnels, plain requests, refusals, limits.
#include "tests/contract/egress/fixture.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Kind = Decision::Kind;

TEST_F(EgressTest, ATunnelCarriesBothWaysAndEachEndAlone) {
  {
    Server server([](int fd) {
      const std::string text = read_to_end(fd);  // until the guest's half close
      write_all(fd, "got " + std::to_string(text.size()), soon());
    });
    start({grant("upstream.test:" + std::to_string(server.port))});
    const UniqueFd fd = dial();
    // The first bytes may come with the request.
    write_all(fd.get(), connect_request("Upstream.TEST.", server.port) + "first", soon());
    EXPECT_EQ(read_head(fd.get()), "HTTP/1.1 200 Connection established\r\n\r\n");
    write_all(fd.get(), std::string(3'000'000, 'x'), soon());
    ::shutdown(fd.get(), SHUT_WR);
    EXPECT_EQ(read_to_end(fd.get()), "got 3000005");
    const Decision decision = last_decision();
    EXPECT_EQ(decision.kind, Kind::allowed);
    EXPECT_EQ(decision.sandbox, "box");
    EXPECT_EQ(decision.host, "upstream.test");
    EXPECT_EQ(decision.port, server.port);
    EXPECT_THAT(decision.rule, HasSubstr("(package sources)"));
    EXPECT_EQ(decision.bytes_up, 3000005u);
    EXPECT_EQ(decision.bytes_down, 11u);
    EXPECT_GT(decision.time, 1'600'000'000);
  }
}

TEST_F(EgressTest, APlainRequestIsWrittenAnewAndTheNextOneOnItsHeelsIsNot) {
  std::mutex mutex;
  std::string seen;
  Server server([&](int fd) {
    std::string text = read_head(fd);
    char body[5];
    for (int i = 0; i < 5; ++i) read_some(fd, body + i, 1, soon());
    write_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", soon());
    // Nothing more may come: not the request that the guest sent right behind.
    pollfd more{fd, POLLIN, 0};
    if (::poll(&more, 1, 150) > 0) text += "MORE";
    const std::lock_guard lock(mutex);
    seen = text + std::string(body, 5);
  });
  const std::string authority = "upstream.test:" + std::to_string(server.port);
  start({grant(authority)});
  const std::string answer =
      ask("POST http://" + authority + "/a?b HTTP/1.1\r\nHost: " + authority +
          "\r\nContent-Length: 5\r\nProxy-Connection: keep-alive\r\nAccept: x\r\n\r\nhelloGET http://" + authority +
          "/evil HTTP/1.1\r\nHost: " + authority + "\r\n\r\n");
  EXPECT_EQ(answer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
  wait_idle();
  const std::lock_guard lock(mutex);
  EXPECT_EQ(seen, "POST /a?b HTTP/1.1\r\nHost: " + authority +
                      "\r\nAccept: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
}

TEST_F(EgressTest, AChunkedBodyIsCodedAnew) {
  std::mutex mutex;
  std::string seen;
  Server server([&](int fd) {
    std::string text = read_head(fd);
    char buffer[1024];
    while (!text.ends_with("0\r\n\r\n")) {
      const std::size_t size = read_some(fd, buffer, sizeof buffer, soon());
      if (size == 0) return;
      text.append(buffer, size);
    }
    {
      const std::lock_guard lock(mutex);
      seen = text.substr(text.find("\r\n\r\n") + 4);
    }
    write_all(fd, "HTTP/1.1 204 No Content\r\n\r\n", soon());
  });
  const std::string authority = "upstream.test:" + std::to_string(server.port);
  start({grant(authority)});
  const std::string start_line =
      "PUT http://" + authority + "/ HTTP/1.1\r\nHost: " + authority + "\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_THAT(ask(start_line + "2;x=y\r\nab\r\n1\r\nc\r\n0\r\nEvil: trailer\r\n\r\n"), StartsWith("HTTP/1.1 204"));
  {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(seen, "3\r\nabc\r\n0\r\n\r\n");
  }
  // A broken one ends both connections without an answer that could be taken for the server's.
  EXPECT_EQ(ask(start_line + "zz\r\n"), "");
  EXPECT_THAT(last_decision(2).reason, HasSubstr("not coded as it should be"));
}

TEST_F(EgressTest, WhatIsNotListedIsRefusedBeforeItIsResolved) {
  start({grant("upstream.test")});
  for (const std::string host :
       {"other.test", "upstream.test.evil.test", "127.0.0.1", "2130706433", "0x7f.1", "[::1]", "169.254.169.254"}) {
    const std::string answer = ask(connect_request(host, 443));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 403 Forbidden\r\n")) << host;
    const bool is_name = !looks_numeric(host);
    EXPECT_EQ(answer.find("agentvm egress allow box " + host) != std::string::npos, is_name) << answer;
    EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain"));
  }
  EXPECT_EQ(names_->lookups, 0);
  EXPECT_THAT(ask(connect_request("upstream.test", 22)), HasSubstr("on another port"));
  EXPECT_THAT(ask("GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n"),
              HasSubstr("may not connect to other.test:80"));
  const Decision decision = last_decision(9);
  EXPECT_EQ(decision.kind, Kind::denied);
  EXPECT_EQ(decision.host, "other.test");
}

TEST_F(EgressTest, ASandboxWithoutAPolicyReachesNothing) {
  start({grant("upstream.test")});
  const UniqueFd fd = dial("another");
  write_all(fd.get(), connect_request("upstream.test", 443), soon());
  EXPECT_THAT(read_to_end(fd.get()), StartsWith("HTTP/1.1 403"));
}

TEST_F(EgressTest, AListedNameDoesNotReachSpecialAddressesWithoutAGrant) {
  Server server([](int) {});
  const std::string port = std::to_string(server.port);
  start({plain("rebound.test:" + port), plain("mapped.test:" + port), plain("mixed.test:" + port)});
  names_->addresses["mapped.test"] = {*IpAddress::parse("::ffff:127.0.0.1")};
  for (const std::string host : {"rebound.test", "mapped.test"}) {
    const std::string answer = ask(connect_request(host, server.port));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 403"));
    EXPECT_THAT(answer, HasSubstr("private or otherwise special"));
  }
  EXPECT_EQ(server.accepted, 0);
}

TEST_F(EgressTest, NamesThatDoNotResolveAndServersThatRefuse) {
  std::uint16_t closed = 0;
  {
    Server gone([](int) {});
    closed = gone.port;
  }
  start({grant("upstream.test:" + std::to_string(closed)), grant("nowhere.test"), grant("slow.test")},
        {.resolve = milliseconds(200)});
  names_->addresses["nowhere.test"] = {};
  EXPECT_THAT(ask(connect_request("upstream.test", closed)), HasSubstr("refused"));
  EXPECT_THAT(ask(connect_request("nowhere.test", 443)), HasSubstr("does not resolve"));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(ask(connect_request("slow.test", 443)), StartsWith("HTTP/1.1 502"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(500));
  EXPECT_EQ(last_decision(3).kind, Kind::failed);
}

TEST_F(EgressTest, TheNextAddressIsTriedWhenOneRefuses) {
  Server server([](int fd) { write_all(fd, "here", soon()); });
  start({grant("upstream.test:" + std::to_string(server.port))});
  names_->addresses["upstream.test"] = {*IpAddress::parse("127.0.0.9"), *IpAddress::parse("::1"),
                                        *IpAddress::parse("127.0.0.1")};
  EXPECT_THAT(ask(connect_request("upstream.test", server.port)), testing::EndsWith("here"));
}

TEST_F(EgressTest, MalformedHeadsAreAnsweredAndNothingIsSent) {
  Server server([](int) {});
  const std::string authority = "upstream.test:" + std::to_string(server.port);
  start({grant(authority)});
  const std::string get = "GET http://" + authority + "/ HTTP/1.1\r\nHost: " + authority + "\r\n";
  EXPECT_THAT(ask(get + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(ask(get + "A: b\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(ask("GET http://" + authority + "/ HTTP/1.1\r\nHost: other.test\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(ask("GET / HTTP/1.1\r\nHost: " + authority + "\r\n\r\n"), HasSubstr("this is a proxy"));
  EXPECT_THAT(ask("\x16\x03\x01\x02"
                  "binary\r\n\r\n"),
              StartsWith("HTTP/1.1 400"));
  const std::string huge = ask(get + "A: " + std::string(200'000, 'x'));
  EXPECT_THAT(huge, StartsWith("HTTP/1.1 431"));
  EXPECT_EQ(server.accepted, 0);
  EXPECT_EQ(last_decision(6).kind, Kind::malformed);
}

TEST_F(EgressTest, SlowClientsEndAtTheDeadline) {
  start({grant("upstream.test")}, {.head = milliseconds(300)});
  const auto begin = std::chrono::steady_clock::now();
  const UniqueFd silent = dial(), dripping = dial();
  std::thread drip([&] {
    for (const char c : std::string("GET http://upstream.test/ HTTP/1.1\r\n")) {
      if (::send(dripping.get(), &c, 1, MSG_NOSIGNAL) != 1) return;
      ::usleep(40'000);
    }
  });
  EXPECT_EQ(read_to_end(silent.get()), "");
  char byte;
  while (::recv(dripping.get(), &byte, 1, 0) > 0) {
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(1500));
  drip.join();
}

TEST_F(EgressTest, IdleTunnelsEndAndBusyOnesDoNot) {
  Server server([](int fd) {
    char buffer[16];
    while (const std::size_t size = read_some(fd, buffer, sizeof buffer, soon()))
      write_all(fd, std::string_view(buffer, size), soon());
  });
  start({grant("upstream.test:" + std::to_string(server.port))}, {.idle = milliseconds(400)});
  const UniqueFd idle = dial(), busy = dial();
  for (const int fd : {idle.get(), busy.get()}) {
    write_all(fd, connect_request("upstream.test", server.port), soon());
    EXPECT_THAT(read_head(fd), StartsWith("HTTP/1.1 200"));
  }
  char byte;
  for (int i = 0; i < 10; ++i) {
    ::usleep(100'000);
    write_all(busy.get(), "\1", soon());  // no byte of a text: it is not waited for the end of a line
    ASSERT_EQ(read_some(busy.get(), &byte, 1, soon()), 1u);
  }
  pollfd ended{idle.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 0), 1);
  EXPECT_EQ(read_to_end(idle.get()), "");
}

TEST_F(EgressTest, AReplacedPolicyEndsWhatItNoLongerAllows) {
  Server server([](int fd) { read_to_end(fd); });
  const std::string port = std::to_string(server.port);
  start({grant("a.test:" + port), grant("b.test:" + port)});
  const UniqueFd a = dial(), b = dial();
  write_all(a.get(), connect_request("a.test", server.port), soon());
  write_all(b.get(), connect_request("b.test", server.port), soon());
  EXPECT_THAT(read_head(a.get()), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(read_head(b.get()), StartsWith("HTTP/1.1 200"));
  egress_->set_policy("box", EgressPolicy({grant("b.test:" + port)}));
  EXPECT_EQ(read_to_end(a.get()), "");
  EXPECT_EQ(last_decision().reason, "no longer allowed");
  write_all(b.get(), "still", soon());
  EXPECT_EQ(egress_->connection_count(), 1u);
  EXPECT_THAT(ask(connect_request("a.test", server.port)), StartsWith("HTTP/1.1 403"));
  egress_->forget("box");
  EXPECT_EQ(read_to_end(b.get()), "");
}

TEST_F(EgressTest, TooManyAtOnceAreToldSoAndOtherSandboxesAreNot) {
  start({grant("upstream.test")}, {.connections_per_sandbox = 20});
  egress_->set_policy("other", EgressPolicy());
  std::vector<UniqueFd> waiting;
  for (int i = 0; i < 20; ++i) waiting.push_back(dial());
  const UniqueFd one_more = dial(), elsewhere = dial("other");
  EXPECT_THAT(read_to_end(one_more.get()), StartsWith("HTTP/1.1 503"));
  write_all(elsewhere.get(), connect_request("x.test", 443), soon());
  EXPECT_THAT(read_to_end(elsewhere.get()), StartsWith("HTTP/1.1 403"));
  waiting.clear();
  wait_idle();
  EXPECT_THAT(ask(connect_request("x.test", 443)), StartsWith("HTTP/1.1 403"));
}

TEST_F(EgressTest, AThousandConnections) {
  Server server([](int fd) {
    read_head(fd);
    write_all(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + std::string(20'000, 'y'), soon());
  });
  const std::string authority = "upstream.test:" + std::to_string(server.port);
  start({grant(authority)});
  std::atomic<int> good = 0;
  std::vector<std::thread> workers;
  for (int worker = 0; worker < 20; ++worker)
    workers.emplace_back([&] {
      for (int i = 0; i < 50; ++i)
        if (ask("GET http://" + authority + "/ HTTP/1.1\r\nHost: " + authority + "\r\n\r\n").size() == 38 + 20'000)
          ++good;
    });
  for (auto& worker : workers) worker.join();
  EXPECT_EQ(good, 1000);
  wait_idle();
}

TEST_F(EgressTest, AReaderThatStallsHoldsTheServerBack) {
  std::atomic<std::size_t> sent = 0;
  Server server([&](int fd) {
    const std::string block(64 * 1024, 'z');
    while (true) {
      const auto size = ::send(fd, block.data(), block.size(), MSG_NOSIGNAL);
      if (size <= 0) return;
      sent += static_cast<std::size_t>(size);
    }
  });
  start({grant("upstream.test:" + std::to_string(server.port))});
  {
    const UniqueFd fd = dial();
    write_all(fd.get(), connect_request("upstream.test", server.port), soon());
    EXPECT_THAT(read_head(fd.get()), StartsWith("HTTP/1.1 200"));
    ::usleep(300'000);
    const std::size_t then = sent;
    ::usleep(300'000);
    EXPECT_EQ(sent, then);       // all buffers are full
    EXPECT_LT(then, 32u << 20);  // and those are the sockets', not ours
  }
  wait_idle();  // a client that goes away ends its server's connection
}

TEST_F(EgressTest, StopEndsEverythingInTime) {
  Server server([](int fd) { read_to_end(fd); });
  start({grant("upstream.test:" + std::to_string(server.port)), grant("slow.test")});
  const UniqueFd tunnel = dial(), silent = dial(), resolving = dial();
  write_all(tunnel.get(), connect_request("upstream.test", server.port), soon());
  EXPECT_THAT(read_head(tunnel.get()), StartsWith("HTTP/1.1 200"));
  write_all(resolving.get(), connect_request("slow.test", 443), soon());
  for (const Deadline deadline = soon(); names_->lookups < 2 && !deadline.expired();) ::usleep(2000);
  const auto begin = std::chrono::steady_clock::now();
  egress_->stop(Deadline::after(milliseconds(1000)));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(500));
  for (const int fd : {tunnel.get(), silent.get(), resolving.get()}) EXPECT_EQ(read_to_end(fd), "");
  FdPair pair = make_socketpair();
  egress_->serve(std::move(pair.second), "box");
  EXPECT_EQ(read_to_end(pair.first.get()), "");
  ::usleep(700'000);  // the lookup that hung ends, and finds nobody
}

TEST_F(EgressTest, ALookupThatHangsMayOutliveTheProxy) {
  start({grant("slow.test")});
  const UniqueFd resolving = dial();
  write_all(resolving.get(), connect_request("slow.test", 443), soon());
  for (const Deadline deadline = soon(); names_->lookups == 0 && !deadline.expired();) ::usleep(2000);
  const auto begin = std::chrono::steady_clock::now();
  egress_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(400));
  ::usleep(800'000);
}

}  // namespace
}  // namespace agentvm::egress
