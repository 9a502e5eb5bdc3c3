#pragma once
// The guest's agent over a folder that stands for its root, and the host's end of its port.

#include <optional>
#include <thread>

#include <sys/socket.h>

#include "guest/agent/server.hpp"
#include "guest/control/control.hpp"

namespace agentvm::test {

class ServedFolder {
 public:
  explicit ServedFolder(const std::filesystem::path& root) : server_(pair_.second.get(), options_for(root)) {
    guest_ = std::thread([this] { server_.run(Deadline::after(milliseconds(60'000))); });
    control.emplace(std::move(pair_.first));
    control->hello(Deadline::after(milliseconds(30'000)));
  }
  ~ServedFolder() {
    control.reset();
    ::shutdown(pair_.second.get(), SHUT_RDWR);
    guest_.join();
  }
  ServedFolder(const ServedFolder&) = delete;
  ServedFolder& operator=(const ServedFolder&) = delete;

  std::optional<guest::Control> control;

 private:
  static guest::agent::ServerOptions options_for(const std::filesystem::path& root) {
    guest::agent::ServerOptions options;
    options.stage = guest::agent::Stage::running;
    options.root = root;
    return options;
  }
  FdPair pair_ = make_socketpair();
  guest::agent::Server server_;
  std::thread guest_;
};

}  // namespace agentvm::test
