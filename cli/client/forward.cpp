#include "cli/client/forward.hpp"

#include <list>

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/client/signals.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

constexpr std::size_t buffer_bytes = 64u << 10;
constexpr std::size_t connection_limit = 256;
constexpr int backlog = 64;

UniqueFd listen_on(std::uint16_t& port) {
  UniqueFd fd(check_errno(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "making a socket"));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd.get(), backlog) != 0)
    throw Error(ErrorCode::host_lacks, fmt::format("listening on 127.0.0.1:{}: {}", port, errno_text(errno)),
                "agentvm help forward");
  check_errno(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  port = ntohs(address.sin_port);
  return fd;
}

/// Bytes of one direction that have been read and not yet written.
struct Direction {
  std::string held;
  bool ended = false, told = false;  // the reading side is at its end; the writing side has been told
};

/// One connection, and its way into the guest once that is there.
struct Pair {
  UniqueFd outside, inside;
  std::uint64_t request = 0;
  Direction in, out;
  bool broken = false;
  bool over() const { return broken || (in.told && out.told); }
};

/// Moves what poll said can be moved; a direction reads only while it holds nothing.
void move_bytes(int from, int to, Direction& way, bool readable, bool writable, bool& broken) {
  if (readable && way.held.empty() && !way.ended) {
    way.held.resize(buffer_bytes);
    const ssize_t size = ::recv(from, way.held.data(), way.held.size(), MSG_DONTWAIT);
    way.held.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    if (size == 0) way.ended = true;
    if (size < 0 && errno != EAGAIN && errno != EINTR) broken = true;
    writable = true;
  }
  if (writable && !way.held.empty()) {
    const ssize_t size = ::send(to, way.held.data(), way.held.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size > 0) way.held.erase(0, static_cast<std::size_t>(size));
    if (size < 0 && errno != EAGAIN && errno != EINTR) broken = true;
  }
  if (way.ended && way.held.empty() && !way.told) {
    ::shutdown(to, SHUT_WR);
    way.told = true;
  }
}

short wanted(const Direction& reading, const Direction& writing) {
  return static_cast<short>((reading.held.empty() && !reading.ended ? POLLIN : 0) |
                            (writing.held.empty() ? 0 : POLLOUT));
}

class Forwarder {
 public:
  Forwarder(Connection& connection, Json params, std::uint16_t guest_port, Output& output)
      : connection_(connection), params_(std::move(params)), output_(output), signals_(SignalWatch::Window::ignore) {
    params_["port"] = guest_port;
  }

  int run(const UniqueFd& listener) {
    while (true) {
      while (auto message = connection_.receive(Deadline::after(milliseconds(0)))) on_message(*message);
      std::vector<pollfd> entries{{signals_.fd(), POLLIN, 0},
                                  {connection_.fd(), POLLIN, 0},
                                  {pairs_.size() < connection_limit ? listener.get() : -1, POLLIN, 0}};
      const std::size_t first = entries.size();
      for (const auto& pair : pairs_) {
        entries.push_back({pair.inside ? pair.outside.get() : -1, wanted(pair.in, pair.out), 0});
        entries.push_back({pair.inside ? pair.inside.get() : -1, wanted(pair.out, pair.in), 0});
      }
      if (::poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR) throw_errno("poll");
      if (const auto number = signals_.take()) return *number;
      std::size_t at = first;
      for (auto& pair : pairs_) {
        serve(pair, entries[at].revents, entries[at + 1].revents);
        at += 2;
      }
      pairs_.remove_if([](const Pair& pair) { return pair.over(); });
      if (entries[2].revents) accept(listener.get());
    }
  }

 private:
  void serve(Pair& pair, short outside, short inside) {
    constexpr short any_input = POLLIN | POLLHUP | POLLERR;
    if (!pair.inside || (outside | inside) == 0) return;
    move_bytes(pair.outside.get(), pair.inside.get(), pair.in, outside & any_input, inside & POLLOUT, pair.broken);
    move_bytes(pair.inside.get(), pair.outside.get(), pair.out, inside & any_input, outside & POLLOUT, pair.broken);
    // Closed altogether: poll would say so again and again, and nothing could come of the other direction.
    if ((outside & POLLERR) || ((outside & POLLHUP) && pair.in.told) ||
        ((inside & (POLLHUP | POLLERR)) && pair.out.told))
      pair.broken = true;
  }

  void accept(int listener) {
    UniqueFd client(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) return;
    auto& pair = pairs_.emplace_back();
    pair.outside = std::move(client);
    pair.request = connection_.next_id();
    connection_.send(wire::to_json(wire::ClientMessage{pair.request, "connect", params_}));
  }

  void on_message(wire::ServerMessage& message) {
    using Kind = wire::ServerMessage::Kind;
    const auto pair =
        std::find_if(pairs_.begin(), pairs_.end(), [&](const Pair& each) { return each.request == message.id; });
    if (message.kind == Kind::warning) output_.warn(clean_guest_text(message.text, Newlines::keep));
    if (message.kind == Kind::streams) {
      auto fds = connection_.take_fds(message.count);
      if (pair != pairs_.end() && fds.size() == 1) pair->inside = std::move(fds.front());
    }
    if (message.kind != Kind::error || pair == pairs_.end()) return;
    // One connection failed; the next may not.
    output_.warn(wire::error_from(message.body).message());
    pairs_.erase(pair);
  }

  Connection& connection_;
  Json params_;
  Output& output_;
  SignalWatch signals_;
  std::list<Pair> pairs_;
};

}  // namespace

int forward_port(Connection& connection, const Json& params, std::uint16_t host_port, std::uint16_t guest_port,
                 const std::function<void(std::uint16_t)>& listening, Output& output) {
  const auto listener = listen_on(host_port);
  Forwarder forwarder(connection, params, guest_port, output);
  listening(host_port);
  return forwarder.run(listener);
}

}  // namespace agentvm::cli
