#include "vmm/base/unix_socket.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

constexpr std::size_t max_fds_per_message = 8;

/// Reaches a socket of any path length through /proc/self/fd of its folder; keeps that folder open as long as needed.
struct Address {
  explicit Address(const std::filesystem::path& path) {
    std::string text = path.string();
    if (text.size() >= unix_path_limit_bytes) {
      folder = open_file(path.parent_path(), O_PATH | O_DIRECTORY);
      text = fmt::format("/proc/self/fd/{}/{}", folder.get(), path.filename().string());
    }
    if (text.size() >= unix_path_limit_bytes)
      throw Error(ErrorCode::operation_failed, path.string() + ": socket name too long");
    raw.sun_family = AF_UNIX;
    std::memcpy(raw.sun_path, text.c_str(), text.size() + 1);
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&raw); }
  UniqueFd folder;
  sockaddr_un raw{};
};

UniqueFd stream_socket() {
  return UniqueFd(check_errno(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket"));
}

}  // namespace

void check_socket_path(const std::filesystem::path& path) {
  if (path.string().size() >= unix_path_limit_bytes)
    throw Error(
        ErrorCode::operation_failed,
        fmt::format("{} is longer than the {} bytes a socket path may have", path.string(), unix_path_limit_bytes - 1),
        "set AGENTVM_HOME to a shorter folder");
}

UniqueFd listen_unix(const std::filesystem::path& path, int backlog) {
  const Address address(path);
  auto fd = stream_socket();
  if (::bind(fd.get(), address.get(), sizeof address.raw) < 0) {
    if (errno != EADDRINUSE) throw_errno("binding " + path.string());
    if (::connect(stream_socket().get(), address.get(), sizeof address.raw) == 0 || errno != ECONNREFUSED)
      throw Error(ErrorCode::wrong_state, path.string() + " is in use by a running process");
    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0 && !S_ISSOCK(status.st_mode))
      throw Error(ErrorCode::operation_failed, path.string() + " is in the way and is no socket",
                  "ls -l " + path.string());
    ::unlink(path.c_str());
    check_errno(::bind(fd.get(), address.get(), sizeof address.raw), "binding " + path.string());
  }
  check_errno(::chmod(path.c_str(), 0600), path.string());
  check_errno(::listen(fd.get(), backlog), "listening on " + path.string());
  return fd;
}

UniqueFd connect_unix(const std::filesystem::path& path, Deadline deadline) {
  const Address address(path);
  for (;;) {
    auto fd = stream_socket();
    if (::connect(fd.get(), address.get(), sizeof address.raw) == 0) {
      set_nonblocking(fd.get(), false);
      return fd;
    }
    if (errno == ENOENT || errno == ECONNREFUSED)
      throw Error(ErrorCode::not_found, "nobody listens on " + path.string());
    if (errno != EAGAIN) throw_errno("connecting to " + path.string());
    if (deadline.expired()) throw Error(ErrorCode::timed_out, path.string() + " does not accept connections");
    ::poll(nullptr, 0, 10);  // the backlog is full: a unix socket gives no event for room
  }
}

PeerCredentials peer_credentials(int fd) {
  ucred raw{};
  socklen_t size = sizeof raw;
  check_errno(::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &raw, &size), "SO_PEERCRED");
  return {raw.pid, raw.uid, raw.gid};
}

void send_with_fds(int fd, std::string_view data, std::span<const int> fds, Deadline deadline) {
  if (fds.empty()) return write_all(fd, data, deadline);
  if (data.empty() || fds.size() > max_fds_per_message)
    throw Error(ErrorCode::usage, "a message carries 1 byte or more and at most 8 descriptors");
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * max_fds_per_message)] = {};
  iovec part{const_cast<char*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  for (;;) {
    if (!wait_for(fd, POLLOUT, deadline))
      throw Error(ErrorCode::timed_out, "the other side of the socket does not read");
    const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return write_all(fd, data.substr(static_cast<std::size_t>(sent)), deadline);
    if (errno != EINTR && errno != EAGAIN) throw_errno("sendmsg");
  }
}

std::string receive_with_fds(int fd, std::size_t limit_bytes, std::vector<UniqueFd>& fds, Deadline deadline) {
  std::string data(limit_bytes, '\0');
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * max_fds_per_message)];
  iovec part{data.data(), data.size()};
  for (;;) {
    if (!wait_for(fd, POLLIN, deadline)) throw Error(ErrorCode::timed_out, "nothing was received in time");
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t count = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) throw_errno("recvmsg");
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t number = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < number; ++i) {
        int received;
        std::memcpy(&received, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
        fds.emplace_back(received);
      }
    }
    data.resize(static_cast<std::size_t>(count));
    return data;
  }
}

}  // namespace agentvm
