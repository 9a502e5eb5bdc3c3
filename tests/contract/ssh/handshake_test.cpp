// What may happen before a session stands: wrong keys, silence, floods.
#include <random>
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
#include "vmm/base/files.hpp"

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

/// What a guest's own sshd may be told to insist on, and we do not speak.
TEST(Handshake, OneSetOfAlgorithmsAndNoOlderOne) {
  EXPECT_EQ(failure(Sshd("Ciphers aes256-gcm@openssh.com\n").endpoint()), "connected");
  for (const char* only : {"Ciphers aes128-ctr\n", "Ciphers aes256-ctr\nMACs hmac-sha1\n",
                           "KexAlgorithms diffie-hellman-group14-sha256\n", "KexAlgorithms ecdh-sha2-nistp256\n"})
    EXPECT_THAT(failure(Sshd(only).endpoint()), testing::StartsWith("operation-failed: connecting to sandbox test"))
        << only;
}

std::string be32(std::uint32_t value) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(value >> shift);
  return text;
}

/// A packet before any key: length, padding length, payload, padding.
std::string packet(const std::string& payload) {
  const std::size_t padding = 8 - (5 + payload.size()) % 8 + 8;
  return be32(static_cast<std::uint32_t>(1 + payload.size() + padding)) + static_cast<char>(padding) + payload +
         std::string(padding, '\0');
}

std::string key_exchange_init(const std::string& method, const std::string& cipher) {
  std::string payload = "\x14" + std::string(16, 'c');
  for (const auto& list :
       {method, std::string("ssh-ed25519"), cipher, cipher, std::string("hmac-sha2-256"), std::string("hmac-sha2-256"),
        std::string("none"), std::string("none"), std::string(), std::string()})
    payload += be32(static_cast<std::uint32_t>(list.size())) + list;
  return payload + std::string(5, '\0');
}

long resident_kib() {
  const auto text = read_file("/proc/self/statm", 4096);
  return std::strtol(text.c_str() + text.find(' '), nullptr, 10) * (::sysconf(_SC_PAGESIZE) / 1024);
}

/// A server that is the attacker, at each point at which it may speak before it has proven anything.
TEST(Handshake, AHostileServerCostsLittleAndNeverConnects) {
  const auto good = key_exchange_init("curve25519-sha256", "aes128-gcm@openssh.com");
  std::vector<std::pair<std::string, std::string>> said = {
      {"the longest length", be32(0xffffffff) + std::string(4096, 'x')},
      {"no length", be32(0) + std::string(4096, '\0')},
      {"a huge packet", be32(256u << 20) + std::string(8u << 20, 'x')},
      {"more padding than packet", be32(12) + "\xff" + std::string(11, 'x')},
      {"methods that nobody offers", packet(key_exchange_init("diffie-hellman-group1-sha1", "3des-cbc"))},
      {"ciphers that nobody offers", packet(key_exchange_init("curve25519-sha256", "aes128-cbc"))},
      {"no method", packet(key_exchange_init("", ""))},
      {"a list that is longer than its packet", packet("\x14" + std::string(16, 'c') + be32(0x7fffffff) + "x")},
      {"a list that is cut", packet(good.substr(0, 40))},
      {"an answer nobody asked for", packet(good) + packet("\x1f" + be32(0xfffffff0) + "x")},
      {"an empty key", packet(good) + packet("\x1f" + be32(0) + be32(0) + be32(0))},
      {"keys before any were exchanged", packet("\x15") + packet(good)},
      {"authentication before keys", packet(good) + packet("\x34")},
      {"debugging without end", packet(good)},
      {"a farewell full of control characters", packet("\x01" + be32(2) + be32(8) + "\x1b]0;x\x07\n\n" + be32(0))},
  };
  for (int i = 0; i < 4096; ++i) said[13].second += packet("\x04" + std::string(1, '\1') + be32(4) + "talk" + be32(0));
  std::minstd_rand random(7);
  for (int round = 0; round < 40; ++round) {
    auto bytes = packet(good) + packet("\x1f" + be32(32) + std::string(32, 'k') + be32(32) + std::string(32, 'q') +
                                       be32(8) + "12345678");
    for (int change = 0; change < 4; ++change) bytes[random() % bytes.size()] = static_cast<char>(random());
    said.emplace_back("changed bytes " + std::to_string(round), std::move(bytes));
  }
  const long before = resident_kib();
  for (const auto& attack : said) {
    const auto& name = attack.first;
    const auto& bytes = attack.second;
    FakeServer server([&](int fd) {
      try {
        write_all(fd, "SSH-2.0-OpenSSH_9.2\r\n" + bytes, Deadline::after(milliseconds(2000)));
      } catch (const Error&) {  // it hung up
      }
      ::shutdown(fd, SHUT_WR);
      char byte;
      while (::read(fd, &byte, 1) > 0) {
      }
    });
    const auto told = failure(endpoint_for(server.port), milliseconds(2000));
    EXPECT_THAT(told, testing::AnyOf(testing::StartsWith("operation-failed: "), testing::StartsWith("timed-out: ")))
        << name;
    EXPECT_EQ(told.find_first_of("\x1b\x07"), std::string::npos) << name;
  }
  EXPECT_LT(resident_kib() - before, 64 * 1024);
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
