#include "cli/client/connection.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/unix_socket.hpp"

namespace agentvm::cli {

namespace {
constexpr milliseconds send_limit{30'000};
constexpr std::size_t fds_limit = 16;  // in flight and not yet taken; a manager sends 2
}  // namespace

Connection::Connection(const Paths& paths, Deadline deadline)
    : socket_(connect_unix(paths.manager_socket(), deadline)) {
  const auto peer = peer_credentials(socket_.get());
  if (peer.uid != ::geteuid())
    throw Error(ErrorCode::operation_failed,
                fmt::format("{} is served by uid {}, not by you", paths.manager_socket().string(), peer.uid),
                "ls -l " + paths.manager_socket().string());
  send(wire::to_json(wire::Hello{AGENTVM_VERSION, "", {}, ::getpid()}));
  manager_ = wire::hello_from(parse_json(receive_line(deadline), "the manager's hello"));
}

void Connection::send(const Json& line) {
  const auto bytes = dump_json(line) + "\n";
  if (bytes.size() > wire::line_limit_bytes)
    throw Error(ErrorCode::usage,
                fmt::format("the request of {} bytes is longer than the manager takes", bytes.size()));
  std::string_view rest = bytes;
  const auto deadline = Deadline::after(send_limit);
  while (!rest.empty()) {
    const ssize_t sent = ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      rest.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EPIPE || errno == ECONNRESET) {
      throw ManagerLost();
    } else if (errno == EAGAIN) {
      if (!wait_for(socket_.get(), POLLOUT, deadline))
        throw Error(ErrorCode::timed_out, "the manager does not read requests");
    } else if (errno != EINTR) {
      throw_errno("the manager's socket");
    }
  }
}

std::optional<std::string> Connection::try_line(Deadline deadline) {
  for (;;) {
    if (auto line = lines_.next()) return line;
    if (!wait_for(socket_.get(), POLLIN, deadline)) return std::nullopt;
    std::vector<UniqueFd> fds;
    std::string bytes;
    try {
      bytes = receive_with_fds(socket_.get(), 65536, fds, deadline);
    } catch (const Error&) {
      throw ManagerLost();  // ECONNRESET: it was killed with our bytes unread
    }
    for (auto& fd : fds) fds_.push_back(std::move(fd));
    if (fds_.size() > fds_limit)
      throw Error(ErrorCode::operation_failed, "the manager sent more descriptors than were asked for");
    if (bytes.empty()) throw ManagerLost();
    lines_.append(bytes);
  }
}

std::string Connection::receive_line(Deadline deadline) {
  auto line = try_line(deadline);
  if (!line) throw Error(ErrorCode::timed_out, "the manager does not answer", "agentvm manager logs");
  return std::move(*line);
}

std::optional<wire::ServerMessage> Connection::receive(Deadline deadline) {
  const auto line = try_line(deadline);
  if (!line) return std::nullopt;
  return wire::server_message_from(parse_json(*line, "the manager's message"));
}

std::vector<UniqueFd> Connection::take_fds(std::size_t count) {
  // They came with the first byte of the event's line or before, so they are here.
  if (fds_.size() < count)
    throw Error(ErrorCode::operation_failed,
                fmt::format("the manager announced {} streams and sent {}", count, fds_.size()));
  std::vector<UniqueFd> result;
  for (; count > 0; --count) {
    result.push_back(std::move(fds_.front()));
    fds_.pop_front();
  }
  return result;
}

}  // namespace agentvm::cli
