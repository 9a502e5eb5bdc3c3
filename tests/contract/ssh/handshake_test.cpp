// What may happen before a session stands: wrong keys, silence, floods.
#include <stop_token>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/contract/ssh/sshd.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::guest {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Accepts one connection and hands it to `behave`.
class FakeServer {
 public:
  explicit FakeServer(std::function<void(int)> behave) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    check_errno(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size), "bind");
    check_errno(::listen(fd_.get(), 8), "listen");
    check_errno(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
    port = ntohs(address.sin_port);
    thread_ = std::thread([this, behave] {
      const UniqueFd client(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client) behave(client.get());
    });
  }
  ~FakeServer() {
    ::shutdown(fd_.get(), SHUT_RDWR);
    thread_.join();
  }
  std::uint16_t port = 0;

 private:
  UniqueFd fd_;
  std::thread thread_;
};

std::string failure(SshEndpoint endpoint, milliseconds span = milliseconds(10'000)) {
  try {
    connect_ssh(endpoint, Deadline::after(span));
  } catch (const Error& error) {
    return std::string(to_string(error.code())) + ": " + error.message();
  }
  return "connected";
}

SshEndpoint endpoint_for(std::uint16_t port) {
  const KeyPair key = generate_ed25519("x");
  return {.port = port, .user = "agent", .private_key = key.private_pem, .host_key = key.public_line, .name = "box"};
}

TEST(Handshake, AnotherHostKeyEndsItBeforeAnyAuthentication) {
  const Sshd sshd;
  SshEndpoint endpoint = sshd.endpoint();
  endpoint.host_key = generate_ed25519("imposter").public_line;
  EXPECT_THAT(failure(endpoint), testing::StartsWith("operation-failed: connecting to sandbox test"));
  EXPECT_THAT(failure(endpoint), HasSubstr("something else answers there: host key SHA256:"));
  for (const Deadline deadline = Deadline::after(milliseconds(5000));
       sshd.log().find("preauth") == std::string::npos && !deadline.expired();)
    ::usleep(10'000);
  // sshd writes a line with the user's name for the first packet of an authentication, whatever comes of it.
  EXPECT_THAT(sshd.log(), HasSubstr("[preauth]"));
  EXPECT_THAT(sshd.log(), Not(HasSubstr(endpoint.user)));
  EXPECT_THAT(sshd.log(), Not(HasSubstr("publickey")));
  EXPECT_EQ(failure(sshd.endpoint()), "connected");
  EXPECT_THAT(sshd.log(), HasSubstr("publickey"));  // so the check above can fail
}

TEST(Handshake, AKeyThatIsNotAuthorizedIsToldSo) {
  const Sshd sshd;
  SshEndpoint endpoint = sshd.endpoint();
  endpoint.private_key = generate_ed25519("stranger").private_pem;
  EXPECT_THAT(failure(endpoint), HasSubstr("does not let user"));
}

TEST(Handshake, NobodyListening) {
  EXPECT_THAT(failure(endpoint_for(free_port())), HasSubstr("refused"));
}

TEST(Handshake, SilenceEndsAtTheDeadline) {
  FakeServer server([](int fd) {
    char byte;
    while (::read(fd, &byte, 1) > 0) {
    }
  });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(failure(endpoint_for(server.port), milliseconds(400)),
              testing::StartsWith("timed-out: connecting to sandbox box"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(2000));
}

TEST(Handshake, SilenceEndsWhenItIsCalledOff) {
  FakeServer server([](int fd) {
    char byte;
    while (::read(fd, &byte, 1) > 0) {
    }
  });
  std::stop_source stop;
  std::thread stopper([&] {
    ::usleep(200'000);
    stop.request_stop();
  });
  const auto error = test::error_of(
      [&] { connect_ssh(endpoint_for(server.port), Deadline::after(milliseconds(60'000)), {}, stop.get_token()); });
  stopper.join();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::cancelled) << error->what();
  const auto again = test::error_of(
      [&] { connect_ssh(endpoint_for(server.port), Deadline::after(milliseconds(60'000)), {}, stop.get_token()); });
  ASSERT_TRUE(again);
  EXPECT_EQ(again->code(), ErrorCode::cancelled) << "called off before it began";
}

TEST(Handshake, ABannerWithoutEndIsCutOff) {
  std::atomic<std::size_t> sent = 0;
  FakeServer server([&](int fd) {
    const std::string line(64 * 1024, 'x');
    for (;;) {
      const auto size = ::send(fd, line.data(), line.size(), MSG_NOSIGNAL);
      if (size <= 0) return;
      sent += static_cast<std::size_t>(size);
    }
  });
  EXPECT_THAT(failure(endpoint_for(server.port), milliseconds(3000)), Not(testing::StartsWith("connected")));
  EXPECT_LT(sent, 64u << 20);
}

TEST(Handshake, ShortLinesBeforeTheBannerEndAtTheDeadline) {
  FakeServer server([](int fd) {
    while (::send(fd, "not yet\r\n", 9, MSG_NOSIGNAL) > 0) ::usleep(1000);
  });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(failure(endpoint_for(server.port), milliseconds(500)), Not(testing::StartsWith("connected")));
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(2500));
}

TEST(Handshake, AStallAfterTheBannerEndsAtTheDeadline) {
  FakeServer server([](int fd) {
    write_all(fd, "SSH-2.0-OpenSSH_9.2\r\n", Deadline::after(milliseconds(1000)));
    char byte;
    while (::read(fd, &byte, 1) > 0) {
    }
  });
  EXPECT_THAT(failure(endpoint_for(server.port), milliseconds(400)), testing::StartsWith("timed-out"));
}

TEST(Handshake, BadKeysOfOursAreNamed) {
  SshEndpoint endpoint = endpoint_for(1);
  endpoint.private_key = "-----BEGIN OPENSSH PRIVATE KEY-----\nnope\n-----END OPENSSH PRIVATE KEY-----\n";
  EXPECT_THAT(failure(endpoint), HasSubstr("client key cannot be read"));
  endpoint = endpoint_for(1);
  endpoint.host_key = "ssh-rsa AAAA";
  EXPECT_THAT(failure(endpoint), HasSubstr("public key"));
  endpoint = endpoint_for(1);
  endpoint.host = "localhost.example";
  EXPECT_THAT(failure(endpoint), HasSubstr("not a numeric address"));
}

}  // namespace
}  // namespace agentvm::guest
