#include "proxy/route/ports.hpp"

#include <algorithm>

namespace agentvm::proxy {
namespace {

bool is_system(const Port& port) {
  // sshd holds its own port and every one that we listen on over ssh (egress), from 9.8 on by a program of its own.
  constexpr std::string_view processes[] = {"sshd", "sshd-session", "systemd", "systemd-resolve", "systemd-networkd"};
  return port.number == 22 ||
         std::find(std::begin(processes), std::end(processes), port.process) != std::end(processes);
}

/// Of two sockets on one port the loopback one is surest to be reached.
int rank(const Port& port) {
  return port.address == "127.0.0.1" ? 0 : port.address == "::1" ? 1 : 2;
}

bool is_within(std::string_view folder, const std::string& tree) {
  return folder == tree || folder.starts_with(tree + "/");
}

}  // namespace

const Worktree* worktree_of(const std::vector<Worktree>& worktrees, std::string_view folder) {
  const Worktree* innermost = nullptr;
  for (const auto& worktree : worktrees)
    if (is_within(folder, worktree.folder) && (!innermost || worktree.folder.size() > innermost->folder.size()))
      innermost = &worktree;
  return innermost;
}

void place(std::vector<Port>& ports, const std::vector<Worktree>& worktrees) {
  for (auto& port : ports) {
    const auto* worktree = worktree_of(worktrees, port.folder);
    port.in_workspace = worktree != nullptr;
    port.in_main_tree = worktree == worktrees.data();
    port.worktree = worktree ? worktree->label : std::string();
  }
}

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
    if (port.in_main_tree) return port.number;
  for (const auto& port : servers)
    if (port.in_workspace) return port.number;
  return servers.empty() ? std::uint16_t{0} : servers.front().number;
}

std::uint16_t worktree_port(const std::vector<Port>& servers, std::string_view label) {
  for (const auto& port : servers)
    if (port.worktree == label) return port.number;
  return 0;
}

}  // namespace agentvm::proxy
