#pragma once
// The whole proxy with real sockets: loopback servers stand for the world, an injected resolver gives them names.

#include <atomic>
#include <filesystem>
#include <map>
#include <mutex>
#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/egress/egress.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::egress {

inline Deadline soon() {
  return Deadline::after(milliseconds(15'000));
}

inline std::size_t open_descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator()));
}

/// A TCP server on loopback; each connection gets a thread.
class Server {
 public:
  explicit Server(std::function<void(int)> serve) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    check_errno(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size), "bind");
    check_errno(::listen(fd_.get(), 1024), "listen");
    check_errno(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
    port = ntohs(address.sin_port);
    acceptor_ = std::thread([this, serve] {
      std::vector<std::thread> threads;
      while (true) {
        UniqueFd client(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!client) break;
        ++accepted;
        threads.emplace_back([serve, client = std::move(client)] {
          try {
            serve(client.get());
          } catch (const Error&) {  // the proxy ended it: the test looks at its own end
          }
        });
      }
      for (auto& thread : threads) thread.join();
    });
  }
  ~Server() {
    ::shutdown(fd_.get(), SHUT_RDWR);
    acceptor_.join();
  }
  std::uint16_t port = 0;
  std::atomic<int> accepted = 0;

 private:
  UniqueFd fd_;
  std::thread acceptor_;
};

inline std::string read_to_end(int fd, Deadline deadline = soon()) {
  std::string text;
  char buffer[16 * 1024];
  while (const std::size_t size = read_some(fd, buffer, sizeof buffer, deadline)) text.append(buffer, size);
  return text;
}

inline std::string read_head(int fd) {
  std::string text;
  char byte;
  while (!text.ends_with("\r\n\r\n") && read_some(fd, &byte, 1, soon()) == 1) text += byte;
  return text;
}

/// What a server has heard, for a test to look at.
class Heard {
 public:
  void add(std::string_view bytes) {
    const std::lock_guard lock(mutex_);
    text_ += bytes;
  }
  /// All that comes until the other side ends.
  void add_all(int fd) {
    char buffer[4096];
    while (const std::size_t size = read_some(fd, buffer, sizeof buffer, soon())) add({buffer, size});
  }
  std::string text() {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  std::mutex mutex_;
  std::string text_;
};

class EgressTest : public testing::Test {
 protected:
  EgressTest() { before_ = open_descriptors(); }

  /// The proxy with `entries` for sandbox "box"; every name under .test is this host's loopback unless `resolve_` knows
  /// it.
  void start(std::vector<HostRule> entries, Limits limits = {}) {
    Options options;
    options.limits = limits;
    options.resolve = [names = names_](const std::string& host) -> std::vector<IpAddress> {
      ++names->lookups;
      if (host == "slow.test") ::usleep(600'000);
      const auto found = names->addresses.find(host);
      if (found != names->addresses.end()) return found->second;
      return {*IpAddress::parse("127.0.0.1")};
    };
    options.on_decision = [this](const Decision& decision) {
      const std::lock_guard lock(mutex_);
      decisions_.push_back(decision);
    };
    options.on_ask = [this](const Decision& question, Notice notice) {
      const std::lock_guard lock(mutex_);
      questions_.push_back(question);
      if (notice == Notice::due) ++notices_;
    };
    options.on_decoy = [this](const Decision& decision) {
      const std::lock_guard lock(mutex_);
      caught_.push_back(decision);
    };
    options.on_open = [this](const Decision&) { ++opened_; };
    egress_ = std::make_unique<Egress>(std::move(options));
    egress_->set_policy("box", EgressPolicy(std::move(entries)));
  }
  static HostRule grant(const std::string& text) { return HostRule::parse(text, "package sources", true); }
  static HostRule plain(const std::string& text) { return HostRule::parse(text, "egress.allow"); }
  UniqueFd dial(const std::string& sandbox = "box") {
    FdPair pair = make_socketpair();
    egress_->serve(std::move(pair.second), sandbox);
    return std::move(pair.first);
  }
  std::string ask(const std::string& request) {
    const UniqueFd fd = dial();
    write_all(fd.get(), request, soon());
    return read_to_end(fd.get());
  }
  /// A tunnel to `host`, established.
  UniqueFd tunnel(const std::string& host, std::uint16_t port) {
    UniqueFd fd = dial();
    write_all(fd.get(), connect_request(host, port), soon());
    EXPECT_THAT(read_head(fd.get()), testing::StartsWith("HTTP/1.1 200"));
    return fd;
  }
  std::string connect_request(const std::string& host, std::uint16_t port) {
    const std::string target = host + ":" + std::to_string(port);
    return "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n";
  }
  Decision last_decision(std::size_t count = 1) {
    for (const Deadline deadline = soon(); !deadline.expired(); ::usleep(2000)) {
      const std::lock_guard lock(mutex_);
      if (decisions_.size() >= count) return decisions_.back();
    }
    ADD_FAILURE() << "no decision was reported";
    return {};
  }
  void wait_idle() {
    for (const Deadline deadline = soon(); egress_->connection_count() > 0 && !deadline.expired();) ::usleep(2000);
    EXPECT_EQ(egress_->connection_count(), 0u);
  }
  void TearDown() override {
    egress_.reset();
    for (const Deadline deadline = soon(); open_descriptors() > before_ && !deadline.expired();) ::usleep(2000);
    EXPECT_EQ(open_descriptors(), before_);
  }

  struct Names {  // shared with lookups that outlive a test
    std::map<std::string, std::vector<IpAddress>> addresses;
    std::atomic<int> lookups = 0;
  };
  std::shared_ptr<Names> names_ = std::make_shared<Names>();
  std::mutex mutex_;
  std::vector<Decision> decisions_, questions_, caught_;
  int notices_ = 0;
  std::atomic<int> opened_ = 0;
  std::unique_ptr<Egress> egress_;
  std::size_t before_ = 0;
};

}  // namespace agentvm::egress
