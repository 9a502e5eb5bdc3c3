// The reverse proxy alone, for bench/proxy.py: one sandbox, "box", whose only port is a server on this machine's
// loopback. Prints its own port and serves until its standard input ends.

#include <charconv>
#include <csignal>
#include <iostream>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/reverse/reverse.hpp"
#include "vmm/base/error.hpp"

namespace {

using namespace agentvm;

UniqueFd connect_to(std::uint16_t port) {
  UniqueFd fd(check_errno(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  check_errno(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "connect");
  return fd;
}

}  // namespace

int main(int count, char** words) {
  std::uint16_t port = 0;
  if (count != 2 || std::from_chars(words[1], words[1] + std::string_view(words[1]).size(), port).ec != std::errc()) {
    std::cerr << "usage: agentvm-bench-proxy PORT-OF-THE-SERVER\n";
    return 64;
  }
  std::signal(SIGPIPE, SIG_IGN);
  proxy::Options options;
  options.workers = 1;
  options.dial = [](const std::string&, const std::string&, std::uint16_t to, Deadline,
                    proxy::Options::Dialled callback) {
    UniqueFd connection;
    try {
      connection = connect_to(to);
    } catch (const Error& error) {
      return callback({}, error.message());
    }
    callback(std::move(connection), "");
  };
  proxy::ReverseProxy reverse(std::move(options));
  reverse.routes().change([&](proxy::Routes& all) {
    all["box"] = {.state = proxy::SandboxRoute::State::running,
                  .state_text = "running",
                  .machine = 1,
                  .ports = {{port, "127.0.0.1", "server", true}},
                  .primary = port};
  });
  std::cout << reverse.site().port << std::endl;
  char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
