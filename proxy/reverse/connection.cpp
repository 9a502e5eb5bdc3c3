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
      client_{std::move(client)},
      upstream_{Socket(*worker.io())},
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
  if (!there) upstream_.socket.close();
}

/// A browser that gave up and a program that closed its half look the same: the second is given some time.
void Connection::look_at_client() {
  if (client_.tls) {
    const auto peer = client_.tls->look(client_.socket);
    if (peer == TlsSession::Peer::there) return;
    if (peer == TlsSession::Peer::gone) return close();
    half_closed_ = true;
    return due_in_quiet();
  }
  char byte = 0;
  const ssize_t size = ::recv(client_.socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (size > 0 || (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))) return;
  if (size < 0) return close();
  half_closed_ = true;
  due_in_quiet();
}

void Connection::close() {
  ended_ = true;
  error_code ignored;
  client_.socket.close(ignored);
  drop_upstream();
  wake_.cancel();
}

awaitable<void> Connection::serve() {
  if (worker_.shared().tls) {
    const bool goes_on = co_await begin_tls();
    if (!goes_on || ended_) co_return;
  }
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

/// False when there is nobody to serve. Counts as a wait for a request: whoever is slow here gives way like others.
awaitable<bool> Connection::begin_tls() {
  const auto place = worker_.wait(*this);
  const auto opening = co_await look_at_opening(client_.socket);
  insecure_ = opening == Opening::plain;
  bool goes_on = insecure_;
  if (opening == Opening::tls) {
    // The routes of this moment: the name is looked up again with each request.
    client_.tls = std::make_unique<TlsSession>(*worker_.shared().tls, [this](const std::string& name) {
      const Site& site = worker_.shared().site;
      const auto host = fmt::format("{}:{}", name, same_port_ == 0 ? site.port : same_port_);
      const RouteSnapshot routes = worker_.shared().options.routes->snapshot();
      return decide(*routes, site, host, same_port_).kind != RouteDecision::Kind::unknown;
    });
    const auto error = co_await client_.tls->shake_hands(client_.socket);
    goes_on = !error;
  }
  worker_.served(place);
  co_return goes_on;
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
  if (insecure_) {
    request_.keep_alive = false;
    co_return co_await reply(insecure_page(site, request_, decision, same_port_));
  }
  // A certificate was shown for one name: what is asked of another is answered by a connection of that one's.
  if (client_.tls && request_.host.substr(0, request_.host.find(':')) != client_.tls->name())
    co_return co_await reply(other_name_page(request_.host, client_.tls->name()));
  switch (decision.kind) {
    case RouteDecision::Kind::forward:
      break;
    case RouteDecision::Kind::index:
      co_return co_await reply(index_page(*routes, site, request_.target, worker_.shared().options.waiting));
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
  end_sending(client_);
  due_in(farewell_limit);
  in_.clear();
  for (int i = 0; i < farewell_reads && !ended_ && !co_await receive(client_, in_); ++i) in_.clear();
}

awaitable<bool> Connection::send(Stream& to, std::string_view data) {
  if (to.tls) {
    const auto failure = co_await to.tls->send(to.socket, data);
    co_return !failure;
  }
  const auto [error, size] = co_await asio::async_write(to.socket, asio::buffer(data), as_result);
  co_return !error;
}

void Connection::end_sending(Stream& to) {
  if (to.tls) to.tls->end(to.socket);
  error_code ignored;
  to.socket.shutdown(asio::socket_base::shutdown_send, ignored);
}

awaitable<error_code> Connection::receive(Stream& from, Buffer& buffer) {
  if (from.tls) co_return co_await from.tls->receive(from.socket, buffer);
  const auto room = buffer.prepare();
  const auto [error, size] = co_await from.socket.async_read_some(asio::buffer(room.data(), room.size()), as_result);
  buffer.commit(size);
  co_return error;
}

void Connection::break_off() {
  error_code ignored;
  client_.socket.set_option(asio::socket_base::linger(true, 0), ignored);
  close();
}

}  // namespace agentvm::proxy
