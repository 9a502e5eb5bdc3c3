#include "cli/manager/connection.hpp"

#include <boost/asio/post.hpp>
#include <sys/socket.h>

#include "vmm/base/log.hpp"

namespace agentvm::manager {

namespace {

constexpr milliseconds hello_limit{10'000};
constexpr std::size_t droppable_limit_bytes = 256u
                                              << 10;  // progress beyond this is dropped while the client does not read
constexpr std::size_t queue_limit_bytes = 8u << 20;   // a client this far behind is cut off
constexpr std::size_t calls_limit = 64;
constexpr std::size_t fds_limit = 8;

/// One sendmsg; -1 with errno as always. All of `fds` go with the first byte or not at all.
ssize_t send_some(int fd, std::string_view data, const std::vector<UniqueFd>& fds) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * fds_limit)] = {};
  iovec part{const_cast<char*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    for (std::size_t i = 0; i < fds.size(); ++i) {
      const int raw = fds[i].get();
      std::memcpy(CMSG_DATA(header) + i * sizeof(int), &raw, sizeof raw);
    }
  }
  return ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

Connection::Connection(boost::asio::io_context& io, UniqueFd socket, PeerCredentials peer, ConnectionOwner& owner)
    : io_(io), socket_(io), hello_timer_(io), peer_(peer), owner_(owner) {
  socket_.assign(boost::asio::local::stream_protocol(), socket.release());
  socket_.non_blocking(true);
}

void Connection::start() {
  enqueue({dump_json(wire::to_json(owner_.hello())) + "\n", {}, 0});
  hello_timer_.expires_after(hello_limit);
  hello_timer_.async_wait([self = shared_from_this()](const boost::system::error_code& problem) {
    if (!problem && self->client_version_.empty()) self->close();
  });
  read();
}

void Connection::read() {
  if (closed_) return;
  socket_.async_wait(boost::asio::local::stream_protocol::socket::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& problem) {
                       if (self->closed_) return;
                       if (problem) return self->close();
                       self->on_readable();
                     });
}

void Connection::on_readable() {
  char buffer[65536];
  // Plain recv: descriptors that a client sends along are dropped by the kernel.
  const ssize_t count = ::recv(socket_.native_handle(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (count == 0) return close();
  if (count < 0 && errno != EAGAIN && errno != EINTR) return close();
  if (count > 0) {
    lines_.append({buffer, static_cast<std::size_t>(count)});
    try {
      while (const auto line = lines_.next()) {
        on_line(*line);
        if (closed_ || finishing_) return;
      }
    } catch (const Error& error) {
      return refuse(error);
    } catch (const std::exception& problem) {
      return refuse(Error(ErrorCode::operation_failed, problem.what()));
    }
  }
  read();
}

void Connection::on_line(const std::string& text) {
  const auto line = parse_json(text, "a request");
  if (client_version_.empty()) {
    client_version_ = wire::hello_from(line).version;
    if (client_version_.empty()) throw Error(ErrorCode::operation_failed, "the hello names no version");
    hello_timer_.cancel();
    return;
  }
  auto message = wire::client_message_from(line);
  const auto known = calls_.find(message.id);
  if (message.method == "cancel" || message.method == "resize" || message.method == "signal") {
    const auto call = known == calls_.end() ? nullptr : known->second.lock();
    if (!call) return;  // already answered: the messages crossed
    if (message.method == "cancel") return call->cancel();
    message.params["method"] = message.method;
    return call->deliver(std::move(message.params));
  }
  if (known != calls_.end()) throw Error(ErrorCode::operation_failed, fmt::format("the id {} is in use", message.id));
  if (calls_.size() >= calls_limit)
    throw Error(ErrorCode::operation_failed, fmt::format("more than {} requests at once", calls_limit));
  owner_.request(shared_from_this(), std::move(message));
}

void Connection::refuse(const Error& error) {
  log::warn("manager", "connection of pid {} refused: {}", peer_.pid, error.what());
  enqueue({dump_json(wire::error_line(0, error)) + "\n", {}, 0});
  finish();
}

void Connection::post(Json line, std::vector<UniqueFd> fds, Weight weight) {
  if (weight == Weight::droppable && queued_bytes_ > droppable_limit_bytes) return;
  auto bytes = dump_json(line) + "\n";
  if (bytes.size() > wire::line_limit_bytes) {
    const auto id = value_or<std::uint64_t>(line, "id", 0);
    bytes = dump_json(wire::error_line(id, Error(ErrorCode::operation_failed,
                                                 fmt::format("the answer of {} bytes is too long", bytes.size())))) +
            "\n";
  }
  queued_bytes_ += bytes.size();
  auto outgoing = std::make_shared<Outgoing>(Outgoing{std::move(bytes), std::move(fds), 0});
  boost::asio::post(io_, [self = shared_from_this(), outgoing] {
    self->queued_bytes_ -= outgoing->bytes.size();
    self->enqueue(std::move(*outgoing));
  });
}

void Connection::call_ended(std::uint64_t id) {
  boost::asio::post(io_, [self = shared_from_this(), id] { self->calls_.erase(id); });
}

void Connection::enqueue(Outgoing outgoing) {
  if (closed_ || finishing_) return;
  queued_bytes_ += outgoing.bytes.size();
  queue_.push_back(std::move(outgoing));
  if (queued_bytes_ > queue_limit_bytes) {
    log::warn("manager", "pid {} does not read its answers: cut off", peer_.pid);
    return close();
  }
  if (!writing_) write();
}

void Connection::write() {
  writing_ = false;
  while (!queue_.empty() && !closed_) {
    auto& front = queue_.front();
    const ssize_t sent =
        send_some(socket_.native_handle(), std::string_view(front.bytes).substr(front.sent), front.fds);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) {
      writing_ = true;
      socket_.async_wait(boost::asio::local::stream_protocol::socket::wait_write,
                         [self = shared_from_this()](const boost::system::error_code& problem) {
                           if (problem) return self->close();
                           self->write();
                         });
      return;
    }
    if (sent < 0) return close();
    front.fds.clear();
    front.sent += static_cast<std::size_t>(sent);
    if (front.sent < front.bytes.size()) continue;
    queued_bytes_ -= front.bytes.size();
    queue_.pop_front();
  }
  if (finishing_ && queue_.empty()) close();
}

void Connection::finish() {
  if (closed_) return;
  finishing_ = true;
  if (queue_.empty()) close();
}

void Connection::close() {
  if (closed_) return;
  closed_ = true;
  queue_.clear();
  hello_timer_.cancel();
  boost::system::error_code ignored;
  socket_.close(ignored);
  const auto self = shared_from_this();
  for (const auto& [id, weak] : std::exchange(calls_, {}))
    if (const auto call = weak.lock()) call->cancel();
  owner_.closed(self);
}

}  // namespace agentvm::manager
