#pragma once
// The listening ports of a guest, as far as people care about them. Pure.

#include <cstdint>
#include <string>
#include <vector>

namespace agentvm::proxy {

inline constexpr std::size_t port_limit = 256;  ///< per sandbox

struct Port {
  std::uint16_t number = 0;
  std::string address;        ///< to dial inside the guest: "127.0.0.1", "::1", or the one it is bound to
  std::string process;        ///< its name; guest text
  bool in_workspace = false;  ///< its process works below /workspace
  bool operator==(const Port&) const = default;
};

/// Without what the guest's system and we ourselves listen on; by number, one entry each, at most `port_limit`.
std::vector<Port> dev_servers(std::vector<Port> listening);

/// What a bare name leads to: `current` while it still listens, else the lowest in the workspace, else the lowest; 0
/// when there is none.
std::uint16_t primary_port(const std::vector<Port>& servers, std::uint16_t current);

}  // namespace agentvm::proxy
