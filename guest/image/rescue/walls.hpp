#pragma once
// The walls around the process that reads a guest's disk, and around the QEMU that it starts.

#include <cstdint>
#include <filesystem>
#include <vector>

namespace agentvm::rescue {

/// What both live in from the start: no core files, bounded files, no new privileges; namespaces of their own (users:
/// one id, without power over anything of the host; network: none; processes: all end with the first) and files written
/// below or at `writable` alone (Landlock). What the kernel does not offer is left out: a host without user namespaces
/// is where work is kept on disks. Forks; the caller goes on in the child, and its parent ends with its exit
/// status. Call it with one thread.
/// `file_limit_bytes`: no file below them may become longer.
void enter_walls(const std::vector<std::filesystem::path>& writable, std::uint64_t file_limit_bytes);

/// Overlays of what a journal replays.
inline constexpr std::uint64_t overlay_limit_bytes = std::uint64_t{8} << 30;

/// What the caller may write into one file once the gates are closed.
inline constexpr std::uint64_t answer_limit_bytes = std::uint64_t{64} << 20;

/// Once QEMU runs: no program, no socket, no process from here on, and no file but what is open.
/// Throws when seccomp cannot be set.
void close_gates();

}  // namespace agentvm::rescue
