#pragma once
// The whole reverse proxy with real sockets: servers on this machine's loopback stand for the guest's.

#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include "proxy/reverse/reverse.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::proxy {

inline Deadline soon() {
  return Deadline::after(milliseconds(20'000));
}

/// A TCP server on 127.0.0.1; each connection gets a thread of its own.
class Server {
 public:
  explicit Server(std::function<void(int)> serve);
  ~Server();
  std::uint16_t port = 0;
  std::atomic<int> accepted = 0;

 private:
  UniqueFd fd_;
  std::thread acceptor_;
};

/// One of the Python programs beside this file; it prints its port.
class Program {
 public:
  explicit Program(const std::string& script, const std::vector<std::string>& arguments = {});
  std::uint16_t port = 0;

 private:
  std::optional<Process> process_;
};

UniqueFd connect_to(std::uint16_t port);
std::string read_to_end(int fd);
/// Up to and with the empty line.
std::string read_head(int fd);
/// Upgrades, reads to the end of the other direction, and then says what came: "got ...".
void serve_until_half_closed(int fd);
std::string read_exactly(int fd, std::size_t size);
bool at_end(int fd);
/// "HTTP/1.1 200 OK..." -> 200; 0 when it is none.
int status_of(const std::string& answer);

/// What a server of the test answers to each request: `head` as it came. Reads bodies with Content-Length.
void serve_each(int fd, const std::function<std::string(const std::string& head, const std::string& body)>& answer);
std::string answer_with(const std::string& body, const std::string& more = "");

/// Written by the test, read by its servers' threads, or the other way round.
class SharedText {
 public:
  void operator=(std::string text) {
    const std::lock_guard lock(mutex_);
    text_ = std::move(text);
  }
  std::string str() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;
};

class ReverseTest : public testing::Test {
 protected:
  ReverseTest();
  void start(Limits limits = {}, unsigned workers = 1, SamePort same_port = SamePort::off,
             std::shared_ptr<Authority> authority = {});
  /// `box` runs, and its ports are these servers: the number in names is that of the real port.
  void route(const std::string& sandbox, std::vector<std::uint16_t> ports, std::uint64_t machine = 1);
  std::string host(const std::string& name) const;  ///< "box" -> "box.localhost:PORT"
  std::string host(std::uint16_t port, const std::string& sandbox = "box") const;
  UniqueFd dial() const { return connect_to(proxy_->site().port); }
  /// Sends and reads until the end of the stream.
  std::string ask(const std::string& request) const;
  std::string get(const std::string& to, const std::string& path = "/", const std::string& more = "") const;
  void wait_idle() const;
  void TearDown() override;

  std::unique_ptr<ReverseProxy> proxy_;
  std::atomic<int> dials_ = 0;
  std::mutex dialling_;
  std::function<void(Options::Dialled)> dial_instead_;       // guarded by dialling_
  std::map<std::string, std::vector<std::string>> waiting_;  // by sandbox; not changed after `start`
  std::size_t before_ = 0;
};

}  // namespace agentvm::proxy
