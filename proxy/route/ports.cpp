#include "proxy/route/ports.hpp"

#include <algorithm>

namespace agentvm::proxy {
namespace {

bool is_system(const Port& port) {
  // sshd holds its own port and every one that we listen on over ssh (egress).
  constexpr std::string_view processes[] = {"sshd", "systemd", "systemd-resolve", "systemd-networkd"};
  return port.number == 22 ||
         std::find(std::begin(processes), std::end(processes), port.process) != std::end(processes);
}

/// Of two sockets on one port the loopback one is surest to be reached.
int rank(const Port& port) {
  return port.address == "127.0.0.1" ? 0 : port.address == "::1" ? 1 : 2;
}

}  // namespace

std::vector<Port> dev_servers(std::vector<Port> listening) {
  std::erase_if(listening, is_system);
  std::stable_sort(listening.begin(), listening.end(), [](const Port& a, const Port& b) {
    return a.number != b.number ? a.number < b.number : rank(a) < rank(b);
  });
  listening.erase(std::unique(listening.begin(), listening.end(),
                              [](const Port& a, const Port& b) { return a.number == b.number; }),
                  listening.end());
  if (listening.size() > port_limit) listening.resize(port_limit);
  return listening;
}

std::uint16_t primary_port(const std::vector<Port>& servers, std::uint16_t current) {
  const auto has = [&](const Port& port) { return port.number == current; };
  if (std::any_of(servers.begin(), servers.end(), has)) return current;
  for (const auto& port : servers)
    if (port.in_workspace) return port.number;
  return servers.empty() ? std::uint16_t{0} : servers.front().number;
}

}  // namespace agentvm::proxy
