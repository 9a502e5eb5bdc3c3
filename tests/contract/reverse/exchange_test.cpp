// Requests and answers as browsers and servers make them.
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/socket.h>

#include "tests/contract/reverse/fixture.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::proxy {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST_F(ReverseTest, PythonsFileServerAsPeopleStartIt) {
  const test::TemporaryFolder folder;
  const std::string large(5'000'000, 'x');
  std::ofstream(folder / "large") << large;
  std::ofstream(folder / "small.html") << "<p>hello";
  for (const char* version : {"HTTP/1.0", "HTTP/1.1"}) {
    const Program files("files_server.py", {folder.path().string(), version});
    start();
    route("box", {files.port});
    EXPECT_THAT(get(host("box"), "/small.html"),
                AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("\r\n\r\n<p>hello")));
    EXPECT_EQ(status_of(get(host("box"), "/none")), 404);
    EXPECT_THAT(get(host("box"), "/"), HasSubstr("small.html"));
    const auto answer = get(host("box"), "/large");
    EXPECT_EQ(answer.substr(answer.find("\r\n\r\n") + 4), large);
    // Our side of the connection is kept even where the server's is not.
    const UniqueFd client = dial();
    for (int i = 0; i < 3; ++i) {
      write_all(client.get(), fmt::format("HEAD /small.html HTTP/1.1\r\nHost: {}\r\n\r\n", host("box")), soon());
      EXPECT_THAT(read_head(client.get()), AllOf(HasSubstr("Content-Length: 8"), HasSubstr("keep-alive")));
    }
  }
}

TEST_F(ReverseTest, TheServerSeesOurWriting) {
  SharedText seen;
  Server server([&](int fd) {
    serve_each(fd, [&](const std::string& head, const std::string&) {
      seen = head;
      return answer_with("", "Connection: X-Internal\r\nX-Internal: 1\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n");
    });
  });
  start();
  route("box", {server.port});
  const auto answer = get(host("box"), "/a?b", "Cookie: x=y\r\nX-Forwarded-For: 6.6.6.6\r\nTE: trailers\r\n");
  EXPECT_EQ(seen.str(),
            fmt::format("GET /a?b HTTP/1.1\r\nHost: {0}\r\nCookie: x=y\r\nX-Forwarded-For: 127.0.0.1\r\n"
                        "X-Forwarded-Host: {0}\r\nX-Forwarded-Proto: http\r\nConnection: keep-alive\r\n\r\n",
                        host("box")));
  EXPECT_THAT(answer, AllOf(HasSubstr("Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n"), Not(HasSubstr("X-Internal"))));
}

TEST_F(ReverseTest, OneUpstreamForManyRequestsAndANewOneWhenItClosed) {
  std::atomic<int> served = 0;
  Server server([&](int fd) {
    // Every connection is closed, without a word, after three answers.
    for (int i = 0; i < 3; ++i) {
      if (!read_head(fd).ends_with("\r\n\r\n")) return;
      write_all(fd, answer_with(std::to_string(++served)), soon());
    }
  });
  start();
  route("box", {server.port});
  const UniqueFd client = dial();
  for (int i = 1; i <= 9; ++i) {
    write_all(client.get(), fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("box")), soon());
    EXPECT_EQ(status_of(read_head(client.get())), 200);
    EXPECT_EQ(read_exactly(client.get(), 1), std::to_string(i));
  }
  EXPECT_EQ(server.accepted, 3);
}

TEST_F(ReverseTest, PipelinedRequestsAreAnsweredInOrder) {
  Server server([](int fd) {
    serve_each(fd,
               [](const std::string& head, const std::string& body) { return answer_with(head.substr(4, 3) + body); });
  });
  start();
  route("box", {server.port});
  const auto one = fmt::format("GET /a  HTTP/1.1\r\nHost: {}\r\n", host("box"));
  const auto at = fmt::format(" HTTP/1.1\r\nHost: {}\r\n", host("box"));
  const auto answer =
      ask("GET /1" + at + "\r\nPUT /2" + at + "Content-Length: 3\r\n\r\nxyzGET /3" + at + "Connection: close\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("\r\n\r\n/1 HTTP"));
  EXPECT_THAT(answer, HasSubstr("/2 xyzHTTP"));
  EXPECT_TRUE(answer.ends_with("/3 ")) << answer;
}

TEST_F(ReverseTest, LargeBodiesBothWaysAtOnce) {
  // The server sends back what it reads while it still reads.
  Server server([](int fd) {
    const auto head = read_head(fd);
    const auto size = std::stoul(head.substr(head.find("Content-Length: ") + 16));
    write_all(fd, fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", size), soon());
    std::vector<char> buffer(60'000);
    for (std::size_t left = size; left > 0;) {
      const auto got = read_some(fd, buffer.data(), buffer.size(), soon());
      if (got == 0) return;
      write_all(fd, {buffer.data(), got}, soon());
      left -= got;
    }
  });
  start();
  route("box", {server.port});
  std::string body(8'000'000, '\0');
  for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>(i * 7 + i / 251);
  const UniqueFd client = dial();
  std::thread sender([&] {
    write_all(client.get(),
              fmt::format("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", host("box"), body.size()),
              soon());
    write_all(client.get(), body, soon());
  });
  EXPECT_EQ(status_of(read_head(client.get())), 200);
  EXPECT_EQ(read_exactly(client.get(), body.size()), body);
  sender.join();
}

TEST_F(ReverseTest, ChunksTrailersAndContinue) {
  SharedText seen;
  Server server([&](int fd) {
    EXPECT_THAT(read_head(fd), HasSubstr("Expect: 100-continue"));
    write_all(fd, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", soon());
    std::string body;
    while (!body.ends_with("0\r\nX-Sum: 7\r\n\r\n")) body += read_exactly(fd, 1);
    seen = body;
    write_all(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nServer-Timing: a\r\n\r\n",
              soon());
  });
  start();
  route("box", {server.port});
  const UniqueFd client = dial();
  write_all(client.get(),
            fmt::format("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n"
                        "Connection: close\r\n\r\n",
                        host("box")),
            soon());
  EXPECT_EQ(read_head(client.get()), "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
  EXPECT_EQ(read_head(client.get()), "HTTP/1.1 100 Continue\r\n\r\n");
  write_all(client.get(), "5;ext=1\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n", soon());
  EXPECT_THAT(read_to_end(client.get()), testing::EndsWith("\r\n\r\n3\r\nabc\r\n0\r\nServer-Timing: a\r\n\r\n"));
  EXPECT_EQ(seen.str(), "5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n");
}

TEST_F(ReverseTest, EventsArriveWhileTheAnswerGoesOn) {
  FdPair steps = make_socketpair();
  Server server([&](int fd) {
    read_head(fd);
    write_all(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", soon());
    for (int i = 0; i < 3; ++i) {
      write_all(fd, fmt::format("data: {}\n\n", i), soon());
      read_exactly(steps.second.get(), 1);
    }
  });
  start();
  route("box", {server.port});
  const UniqueFd client = dial();
  write_all(client.get(), fmt::format("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", host("box")), soon());
  EXPECT_THAT(read_head(client.get()), HasSubstr("Transfer-Encoding: chunked"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(read_exactly(client.get(), 14), fmt::format("9\r\ndata: {}\n\n\r\n", i));
    write_all(steps.first.get(), "x", soon());
  }
  EXPECT_EQ(read_exactly(client.get(), 5), "0\r\n\r\n");
}

TEST_F(ReverseTest, AWebsocketEchoes) {
  const Program echo("echo_websocket.py");
  start();
  route("box", {echo.port});
  const UniqueFd client = dial();
  // A frame may come along with the request for the upgrade.
  const std::string frame("\x81\x85\x01\x02\x03\x04igohn", 11);
  write_all(client.get(),
            fmt::format("GET / HTTP/1.1\r\nHost: {0}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                        "Origin: http://{0}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n{1}",
                        host("box"), frame),
            soon());
  EXPECT_THAT(read_head(client.get()), AllOf(StartsWith("HTTP/1.1 101"), HasSubstr("Upgrade: websocket"),
                                             HasSubstr("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(read_exactly(client.get(), 7), std::string("\x81\x05hello"));
    write_all(client.get(), frame, soon());
  }
  EXPECT_EQ(read_exactly(client.get(), 7), std::string("\x81\x05hello"));
  write_all(client.get(), std::string("\x88\x80\x01\x02\x03\x04", 6), soon());
  EXPECT_EQ(read_exactly(client.get(), 2), std::string("\x88\x00", 2));
  EXPECT_TRUE(at_end(client.get()));
}

TEST_F(ReverseTest, ATunnelClosesOneDirectionAtATime) {
  Server server(serve_until_half_closed);
  start();
  route("box", {server.port});
  const UniqueFd client = dial();
  write_all(
      client.get(),
      fmt::format("GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbytes", host("box")),
      soon());
  ::shutdown(client.get(), SHUT_WR);
  EXPECT_TRUE(read_to_end(client.get()).ends_with("\r\n\r\ngot bytes"));
}

TEST_F(ReverseTest, AClientMayCloseItsHalfAfterTheRequest) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("still here"); }); });
  start();
  route("box", {server.port});
  const UniqueFd client = dial();
  write_all(client.get(), fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("box")), soon());
  ::shutdown(client.get(), SHUT_WR);
  EXPECT_TRUE(read_to_end(client.get()).ends_with("still here"));
}

TEST_F(ReverseTest, AnEarlyAnswerIsPassedOnAndEndsTheConnection) {
  Server server([](int fd) {
    read_head(fd);
    write_all(fd, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig", soon());
  });
  start();
  route("box", {server.port});
  const UniqueFd client = dial();
  write_all(client.get(),
            fmt::format("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 999999999\r\n\r\nbegin", host("box")), soon());
  EXPECT_THAT(read_to_end(client.get()),
              AllOf(StartsWith("HTTP/1.1 413"), HasSubstr("Connection: close"), testing::EndsWith("big")));
}

TEST_F(ReverseTest, AnEarlyAnswerEndsAnUploadThatGoesOn) {
  Server server([](int fd) {
    read_head(fd);
    read_exactly(fd, 100'000);
    write_all(fd, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig", soon());
    read_to_end(fd);
  });
  start();
  route("box", {server.port});
  for (int i = 0; i < 20; ++i) {
    const UniqueFd client = dial();
    std::thread sender([&] {
      try {
        write_all(client.get(),
                  fmt::format("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: 999999999\r\n\r\n", host("box")), soon());
        const std::string piece(10'000, 'x');
        while (true) write_all(client.get(), piece, soon());
      } catch (const Error& error) {
        EXPECT_NE(error.code(), ErrorCode::timed_out);
      }
    });
    EXPECT_EQ(status_of(read_head(client.get())), 413);
    EXPECT_EQ(read_exactly(client.get(), 3), "big");
    EXPECT_TRUE(at_end(client.get()));
    sender.join();
  }
}

TEST_F(ReverseTest, AnOldClientGetsTheEndOfTheConnection) {
  Server server([](int fd) {
    read_head(fd);
    write_all(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", soon());
    read_to_end(fd);
  });
  start();
  route("box", {server.port});
  const auto answer = ask(fmt::format("GET / HTTP/1.0\r\nHost: {}\r\nConnection: keep-alive\r\n\r\n", host("box")));
  EXPECT_THAT(answer,
              AllOf(testing::EndsWith("\r\n\r\nabc"), Not(HasSubstr("chunked")), HasSubstr("Connection: close")));
}

}  // namespace
}  // namespace agentvm::proxy
