#pragma once
// Unix stream sockets: paths of any length, descriptors in flight, and who is at the other end.

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "vmm/base/fd.hpp"

namespace agentvm {

/// sizeof(sockaddr_un::sun_path) with its terminator: paths handed to other programs must be shorter than this.
inline constexpr std::size_t unix_path_limit_bytes = 108;

/// Throws `operation_failed` with the remedy when `path` does not fit a socket address (needed where QEMU or libvirt
/// binds it).
void check_socket_path(const std::filesystem::path& path);
/// Binds and listens, 0600, replacing a stale socket file that nobody listens on. Non-blocking. Throws `wrong_state`
/// when one is alive.
UniqueFd listen_unix(const std::filesystem::path& path, int backlog = 64);
/// Connected and blocking; throws `not_found` when nobody listens (absent or refused).
UniqueFd connect_unix(const std::filesystem::path& path, Deadline deadline);

struct PeerCredentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};
PeerCredentials peer_credentials(int fd);

/// Sends `data` (at least one byte) with up to 8 descriptors on it, in one message.
void send_with_fds(int fd, std::string_view data, std::span<const int> fds, Deadline deadline);
/// One receive of at most `limit_bytes`; descriptors that came along are appended to `fds`, close-on-exec. Empty = end
/// of stream.
std::string receive_with_fds(int fd, std::size_t limit_bytes, std::vector<UniqueFd>& fds, Deadline deadline);

}  // namespace agentvm
