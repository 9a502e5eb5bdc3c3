#include "proxy/reverse/worker.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include "proxy/reverse/connection.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::proxy {
namespace {

constexpr milliseconds sweep_pause{500};

}  // namespace

Worker::Worker(Shared& shared, unsigned index, std::size_t share, std::size_t connection_limit)
    : shared_(shared),
      connection_limit_(std::max<std::size_t>(1, connection_limit / share)),
      upstream_limit_(std::max<std::size_t>(1, shared.options.limits.upstreams_per_sandbox / share)),
      work_(asio::make_work_guard(*io_)),
      sweeper_(*io_) {
  thread_ = std::thread([this, index] {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    ::pthread_setname_np(::pthread_self(), fmt::format("proxy-{}", index).c_str());
    // What escapes one handler must not take the others along.
    while (!io_->stopped()) try {
        io_->run();
      } catch (const std::exception& error) {
        log::error("proxy", "a connection ended unexpectedly: {}", error.what());
      }
  });
}

Worker::~Worker() {
  stop();
  join(Deadline::after(milliseconds(2000)));
}

void Worker::begin(UniqueFd socket, std::uint16_t same_port) {
  asio::post(*io_, [this, fd = std::move(socket), same_port]() mutable { begin_here(std::move(fd), same_port); });
}

void Worker::begin_here(UniqueFd fd, std::uint16_t same_port) {
  if (stopping_) return;
  if (connections_.size() >= connection_limit_) {
    if (waiting_.empty()) return;
    // The evicted are told by their closed sockets and leave the tables on their own; those that have not yet are
    // counted. Of a burst more may come in at once than there are waiting ones: the next arrival makes up for it.
    std::size_t excess = connections_.size() + 1 - connection_limit_;
    for (auto longest = waiting_.begin(); excess > 0 && longest != waiting_.end(); ++longest, --excess)
      (*longest)->close();
  }
  Socket client(*io_);
  error_code error;
  int family = 0;
  socklen_t size = sizeof family;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_DOMAIN, &family, &size) != 0) return;
  client.assign(asio::generic::stream_protocol(family, IPPROTO_TCP), fd.get(), error);
  if (error) return;
  static_cast<void>(fd.release());
  client.set_option(Tcp::no_delay(true), error);
  http::Forwarding forwarding{.client = family == AF_INET6 ? "::1" : "127.0.0.1",
                              .scheme = shared_.tls ? "https" : "http"};
  const auto connection = std::make_shared<Connection>(*this, std::move(client), std::move(forwarding), same_port);
  connections_.emplace(connection.get(), connection);
  ++shared_.connections;
  asio::co_spawn(*io_, Connection::run(connection), asio::detached);
  if (!sweeping_) sweep();
}

/// One timer for all: a timer and a coroutine for each connection would cost more than looking at them twice a second.
void Worker::sweep() {
  sweeping_ = !connections_.empty() && !stopping_;
  if (!sweeping_) return;
  sweeper_.expires_after(sweep_pause);
  sweeper_.async_wait([this](error_code error) {
    if (error) return;
    const auto now = std::chrono::steady_clock::now();
    const auto routes = shared_.options.routes->snapshot();
    for (const auto& [key, connection] : connections_) connection->look(now, *routes);
    sweep();
  });
}

bool Worker::take_upstream(const std::string& sandbox) {
  auto& count = upstreams_[sandbox];
  if (count >= upstream_limit_) return false;
  ++count;
  return true;
}

void Worker::give_upstream(const std::string& sandbox) {
  const auto found = upstreams_.find(sandbox);
  if (--found->second == 0) upstreams_.erase(found);
}

void Worker::remove(const Connection& connection) {
  if (connections_.erase(&connection) > 0) --shared_.connections;
}

void Worker::stop() {
  asio::post(*io_, [this] {
    stopping_ = true;
    for (const auto& [key, connection] : connections_) connection->close();
    sweeper_.cancel();
    work_.reset();
  });
}

bool Worker::join(Deadline deadline) {
  if (!thread_.joinable()) return true;
  // Closed sockets end their coroutines within a few turns; the loop then runs out of work by itself.
  while (!deadline.expired() && !io_->stopped()) std::this_thread::sleep_for(milliseconds(1));
  const bool in_order = io_->stopped();
  io_->stop();
  thread_.join();
  return in_order;
}

}  // namespace agentvm::proxy
