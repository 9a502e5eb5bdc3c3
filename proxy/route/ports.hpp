#pragma once
// The listening ports of a guest, as far as people care about them. Pure.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::proxy {

inline constexpr std::size_t port_limit = 256;  ///< per sandbox

struct Port {
  std::uint16_t number = 0;
  std::string address;                 ///< to dial inside the guest: "127.0.0.1", "::1", or the one it is bound to
  std::string process;                 ///< its name; guest text
  bool in_workspace = false;           ///< its process works in one of the sandbox's work trees; `place` says so
  std::string folder = {};             ///< that its process works in; guest text
  std::string worktree = {};           ///< the label of that work tree; `place` says so. Empty: it has none
  bool in_main_tree = false;           ///< that is the first of them, /workspace itself
  bool same_port = false;              ///< the host listens on this number, too; `SamePorts::follow` says so
  std::string same_port_problem = {};  ///< why it does not, where it was to
  bool operator==(const Port&) const = default;
};

/// A folder of the guest with the files of a branch, as the host has it on record.
struct Worktree {
  std::string folder;  ///< absolute
  std::string label;   ///< in names; empty: it has none (/workspace itself, a detached one)
  std::string branch;  ///< empty: detached, or /workspace itself
  bool operator==(const Worktree&) const = default;
};

/// The innermost one that `folder` is, or is in; the first of two with the same folder. Null when there is none.
const Worktree* worktree_of(const std::vector<Worktree>& worktrees, std::string_view folder);

/// Says of each port whose it is, by the folder that its process works in.
void place(std::vector<Port>& ports, const std::vector<Worktree>& worktrees);

/// Without what the guest's system and we ourselves listen on; by number, one entry each, at most `port_limit`.
std::vector<Port> dev_servers(std::vector<Port> listening);

/// What a sandbox's name leads to: `current` while it still listens, else the lowest in the workspace (before those of
/// work trees that have a name of their own), else the lowest; 0 when there is none.
std::uint16_t primary_port(const std::vector<Port>& servers, std::uint16_t current);

/// What a work tree's name leads to: its lowest; 0 when there is none. `label` is not empty.
std::uint16_t worktree_port(const std::vector<Port>& servers, std::string_view label);

}  // namespace agentvm::proxy
