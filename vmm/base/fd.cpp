#include "vmm/base/fd.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"

namespace agentvm {

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

FdPair make_socketpair() {
  int fds[2];
  check_errno(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), "socketpair");
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

FdPair make_pipe() {
  int fds[2];
  check_errno(::pipe2(fds, O_CLOEXEC), "pipe");
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

UniqueFd duplicate(int fd) {
  return UniqueFd(check_errno(::fcntl(fd, F_DUPFD_CLOEXEC, 3), "dup"));
}

void set_nonblocking(int fd, bool on) {
  const int flags = check_errno(::fcntl(fd, F_GETFL), "fcntl");
  check_errno(::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), "fcntl");
}

bool wait_for(int fd, short events, Deadline deadline) {
  for (;;) {
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, deadline.poll_timeout());
    if (ready > 0) return true;
    if (ready == 0 && deadline.expired()) return false;
    if (ready < 0 && errno != EINTR) throw_errno("poll");
  }
}

namespace {
/// One write that cannot outlast the deadline although the descriptor blocks: a socket is asked not to wait, and a pipe
/// that polls as writable takes PIPE_BUF bytes at once. Files never block for long.
ssize_t write_without_blocking(int fd, std::string_view data, bool is_socket, bool may_block) {
  if (is_socket) return ::send(fd, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return ::write(fd, data.data(), may_block ? std::min<std::size_t>(data.size(), PIPE_BUF) : data.size());
}
}  // namespace

void write_all(int fd, std::string_view data, Deadline deadline) {
  struct stat status {};
  check_errno(::fstat(fd, &status), "write");
  const int flags = check_errno(::fcntl(fd, F_GETFL), "write");
  const bool may_block = !S_ISREG(status.st_mode) && !(flags & O_NONBLOCK);
  while (!data.empty()) {
    if (!wait_for(fd, POLLOUT, deadline)) throw Error(ErrorCode::timed_out, "writing did not finish in time");
    const ssize_t written = write_without_blocking(fd, data, S_ISSOCK(status.st_mode), may_block);
    if (written >= 0)
      data.remove_prefix(static_cast<std::size_t>(written));
    else if (errno != EINTR && errno != EAGAIN)
      throw_errno("write");
  }
}

std::size_t read_some(int fd, void* buffer, std::size_t size, Deadline deadline) {
  for (;;) {
    if (!wait_for(fd, POLLIN, deadline)) throw Error(ErrorCode::timed_out, "nothing was received in time");
    const ssize_t count = ::read(fd, buffer, size);
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno != EINTR && errno != EAGAIN) throw_errno("read");
  }
}

std::optional<std::string> read_to_end(int fd, std::size_t limit_bytes, Deadline deadline) {
  std::string bytes;
  char buffer[16u << 10];
  while (const auto count = read_some(fd, buffer, sizeof buffer, deadline)) {
    if (count > limit_bytes - bytes.size()) return std::nullopt;
    bytes.append(buffer, count);
  }
  return bytes;
}

}  // namespace agentvm
