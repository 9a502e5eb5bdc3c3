#include "proxy/reverse/connection.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include "vmm/base/log.hpp"

namespace agentvm::proxy {
namespace {

// After a reply that ends it, a connection is given this long to take it before it is closed over unread bytes.
constexpr milliseconds farewell_limit{1000};
constexpr int farewell_reads = 64;

}  // namespace

Connection::Connection(Worker& worker, Socket client, http::Forwarding forwarding, std::uint16_t same_port)
    : worker_(worker),
      forwarding_(std::move(forwarding)),
      same_port_(same_port),
      client_(std::move(client)),
      upstream_(*worker.io()),
      wake_(*worker.io()),
      upload_ended_(*worker.io()),
      due_(std::chrono::steady_clock::now() + worker.limits().head) {}

awaitable<void> Connection::run(std::shared_ptr<Connection> self) {
  try {
    co_await self->serve();
  } catch (const std::exception& error) {
    log::warn("proxy", "a connection ended: {}", error.what());
  }
  self->close();
  self->worker_.remove(*self);
}

void Connection::look(SteadyTime now, const Routes& routes) {
  if (ended_) return;
  if (now >= due_) return close();
  if (awaiting_ && body_read_ && !half_closed_) look_at_client();
  if (!upstream_for_) return;
  const auto route = routes.find(upstream_for_->sandbox);
  const bool there = route != routes.end() && route->second.state == SandboxRoute::State::running &&
                     route->second.machine == upstream_for_->machine;
  // Between two requests the upstream alone goes: the next request gets the page that tells.
  if (!there) upstream_.close();
}

/// A browser that gave up and a program that closed its half look the same: the second is given some time.
void Connection::look_at_client() {
  char byte = 0;
  const ssize_t size = ::recv(client_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (size > 0 || (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))) return;
  if (size < 0) return close();
  half_closed_ = true;
  due_in_quiet();
}

void Connection::close() {
  ended_ = true;
  error_code ignored;
  client_.close(ignored);
  drop_upstream();
  wake_.cancel();
}

awaitable<void> Connection::serve() {
  for (bool first = true; !ended_; first = false) {
    due_in(first ? worker_.limits().head : worker_.limits().keep_alive);
    const auto place = worker_.wait(*this);
    const bool complete = co_await read_head();
    worker_.served(place);
    if (!complete || ended_) co_return;
    if (co_await respond() == Next::end) {
      if (!ended_) co_await farewell();
      co_return;
    }
  }
}

/// True when `request_` or `fault_` is there.
awaitable<bool> Connection::read_head() {
  if (in_.empty() && co_await receive(client_, in_)) co_return false;
  due_in(worker_.limits().head);
  fault_.reset();
  for (std::size_t seen = 0; !ended_;) {
    auto parsed = http::parse_request(in_.view(), seen);
    if (parsed.head) {
      request_ = std::move(*parsed.head);
      in_.consume(parsed.size);
      co_return true;
    }
    if (parsed.fault) {
      fault_ = std::move(parsed.fault);
      co_return true;
    }
    seen = in_.size();
    if (co_await receive(client_, in_)) co_return false;
  }
  co_return false;
}

awaitable<Connection::Next> Connection::respond() {
  due_in_quiet();
  answered_ = false;
  body_read_ = fault_ || request_.body.kind == http::Framing::Kind::none;
  if (fault_) {
    request_ = {};
    request_.keep_alive = false;
    co_return co_await reply(refused_page(*fault_));
  }
  // Held for as long as this request takes: what `decision` points to is in it.
  const RouteSnapshot routes = worker_.shared().options.routes->snapshot();
  const Site& site = worker_.shared().site;
  const RouteDecision decision = decide(*routes, site, request_.host, same_port_);
  switch (decision.kind) {
    case RouteDecision::Kind::forward:
      break;
    case RouteDecision::Kind::index:
      co_return co_await reply(index_page(*routes, site, request_.target));
    case RouteDecision::Kind::unknown:
      co_return co_await reply(unknown_page(site, request_.host));
    case RouteDecision::Kind::not_running:
      co_return co_await reply(not_running_page(decision));
    case RouteDecision::Kind::no_server:
      co_return co_await reply(no_server_page(decision, site));
  }
  if (request_.websocket && request_.origin && !may_connect(decision, site, *request_.origin))
    co_return co_await reply(foreign_origin_page(decision.sandbox));
  co_return co_await forward(decision);
}

awaitable<Connection::Next> Connection::forward(const RouteDecision& decision) {
  const bool reused = upstream_for_ && reusable();
  for (bool fresh = false;; fresh = true) {
    if (auto page = co_await connect(decision, fresh)) {
      if (ended_) co_return Next::end;
      co_return co_await reply(std::move(*page));
    }
    const bool may_repeat = reused && !fresh && request_.body.kind == http::Framing::Kind::none &&
                            (request_.method == "GET" || request_.method == "HEAD" || request_.method == "OPTIONS");
    if (co_await exchange(may_repeat) == Attempt::done) break;
  }
  if (ended_) co_return Next::end;
  if (!answered_) {
    drop_upstream();
    if (fault_) {
      request_.keep_alive = false;
      co_return co_await reply(refused_page(*fault_));
    }
    co_return co_await reply(bad_answer_page(decision, problem_));
  }
  if (!upstream_keeps_) drop_upstream();
  co_return request_.keep_alive&& body_read_ ? Next::request : Next::end;
}

/// A body that nobody reads cannot be told from the next request: the connection then ends.
awaitable<Connection::Next> Connection::reply(Page page) {
  due_in(worker_.limits().head);
  const bool keep = request_.keep_alive && body_read_;
  const bool json = wants_json(request_);
  std::string text = page.head(json, keep);
  if (request_.method != "HEAD") text += json ? page.json : page.html;
  answered_ = true;
  if (!co_await send(client_, text)) close();
  co_return keep ? Next::request : Next::end;
}

/// Ends the connection so that the client can still read what was sent: closing over unread bytes would reset it.
awaitable<void> Connection::farewell() {
  error_code error;
  client_.shutdown(asio::socket_base::shutdown_send, error);
  due_in(farewell_limit);
  in_.clear();
  for (int i = 0; i < farewell_reads && !ended_ && !co_await receive(client_, in_); ++i) in_.clear();
}

awaitable<bool> Connection::send(Socket& to, std::string_view data) {
  const auto [error, size] = co_await asio::async_write(to, asio::buffer(data), as_result);
  co_return !error;
}

awaitable<error_code> Connection::receive(Socket& from, Buffer& buffer) {
  const auto room = buffer.prepare();
  const auto [error, size] = co_await from.async_read_some(asio::buffer(room.data(), room.size()), as_result);
  buffer.commit(size);
  co_return error;
}

void Connection::break_off() {
  error_code ignored;
  client_.set_option(asio::socket_base::linger(true, 0), ignored);
  close();
}

}  // namespace agentvm::proxy
