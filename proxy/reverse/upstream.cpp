// The connection into the guest: dialled, kept for the next request, dropped.
#include <sys/socket.h>

#include "proxy/reverse/connection.hpp"

namespace agentvm::proxy {

/// The server may have closed it, or said something that nobody asked for: neither may meet the next request.
bool Connection::reusable() const {
  if (!upstream_.socket.is_open() || !back_.empty()) return false;
  char byte = 0;
  // Asio's handle is const-correct by name only.
  const int fd = const_cast<Socket&>(upstream_.socket).native_handle();
  return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

void Connection::drop_upstream() {
  error_code ignored;
  upstream_.socket.close(ignored);
  back_.clear();
  if (upstream_for_) worker_.give_upstream(upstream_for_->sandbox);
  upstream_for_.reset();
}

awaitable<std::optional<Page>> Connection::connect(const RouteDecision& decision, bool fresh) {
  const Upstream wanted{decision.sandbox, decision.route->machine, decision.port};
  if (!fresh && upstream_for_ == wanted && reusable()) co_return std::nullopt;
  drop_upstream();
  if (!worker_.take_upstream(wanted.sandbox)) co_return crowded_page(decision);
  upstream_for_ = wanted;
  struct Result {
    UniqueFd connection;
    std::string problem;
    bool called = false, late = false;
  };
  const auto result = std::make_shared<Result>();
  const auto limit = worker_.limits().dial;
  due_in(limit + milliseconds(5000));  // the dialler's own end comes first; this is for mistakes
  wake_.expires_after(limit + milliseconds(1000));
  // The callback may come from another thread, late, or after the proxy's end.
  worker_.shared().options.dial(decision.sandbox, decision.address, decision.port, Deadline::after(limit),
                                [weak_io = std::weak_ptr(worker_.io()), weak = weak_from_this(), result](
                                    UniqueFd fd, const std::string& problem) {
                                  const auto io = weak_io.lock();
                                  if (!io) return;
                                  auto arrived = std::make_shared<UniqueFd>(std::move(fd));
                                  asio::post(*io, [weak, result, arrived, problem] {
                                    const auto self = weak.lock();
                                    if (!self || result->late) return;
                                    result->called = true;
                                    result->connection = std::move(*arrived);
                                    result->problem = problem;
                                    self->wake_.cancel();
                                  });
                                });
  co_await wake_.async_wait(as_result);
  result->late = true;
  if (ended_) co_return std::nullopt;
  due_in_quiet();
  if (result->connection) {
    int family = 0;
    socklen_t size = sizeof family;
    error_code error;
    if (::getsockopt(result->connection.get(), SOL_SOCKET, SO_DOMAIN, &family, &size) == 0)
      upstream_.socket.assign(asio::generic::stream_protocol(family, 0), result->connection.get(), error);
    if (!error && upstream_.socket.is_open()) {
      static_cast<void>(result->connection.release());
      co_return std::nullopt;
    }
    result->problem = "its connection cannot be used";
  }
  drop_upstream();
  if (!result->called) co_return timeout_page(decision);
  co_return unreachable_page(decision, result->problem);
}

}  // namespace agentvm::proxy
