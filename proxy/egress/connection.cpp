#include "proxy/egress/connection.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <fmt/format.h>

#include "vmm/base/text.hpp"

namespace agentvm::egress {
namespace {

using asio::awaitable;
using boost::system::error_code;
using namespace asio::experimental::awaitable_operators;
using Kind = Decision::Kind;

constexpr std::size_t buffer_bytes = 32 * 1024;
// After a refusal the client gets this long to take it before its connection is closed over its unread bytes.
constexpr milliseconds farewell{1000};
constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

std::string_view phrase(int status) {
  switch (status) {
    case 403:
      return "Forbidden";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Bad Request";
  }
}

asio::ip::tcp::endpoint endpoint_of(const IpAddress& address, std::uint16_t port) {
  if (address.v6) return {asio::ip::address_v6(address.bytes), port};
  asio::ip::address_v4::bytes_type bytes;
  std::copy_n(address.bytes.begin(), 4, bytes.begin());
  return {asio::ip::address_v4(bytes), port};
}

}  // namespace

Connection::Connection(Egress::Core& core, std::shared_ptr<Socket> client, std::string sandbox)
    : core_(core),
      client_(std::move(client)),
      upstream_(core.io()),
      watchdog_(core.io()),
      wake_(core.io()),
      due_(std::chrono::steady_clock::now() + core.options().limits.head),
      sandbox_(std::move(sandbox)),
      idle_(core.options().limits.idle) {
  decision_.sandbox = sandbox_;
  decision_.time = system_clock().unix_seconds();
}

awaitable<void> Connection::run(std::shared_ptr<Connection> self) {
  try {
    if (auto refusal = co_await self->prepare())
      co_await self->answer(std::move(*refusal));
    else if (!self->ended_)
      co_await self->exchange();
  } catch (const std::exception& error) {
    self->decision_.reason = error.what();
  }
  self->close();
  self->core_.remove(*self);
  self->core_.report(self->decision_);
}

awaitable<void> Connection::watch(std::shared_ptr<Connection> self) {
  while (!self->ended_) {
    self->watchdog_.expires_at(self->due_);
    co_await self->watchdog_.async_wait(as_result);
    if (!self->ended_ && std::chrono::steady_clock::now() >= self->due_) self->end("nothing came in time");
  }
}

void Connection::due_in(milliseconds span) {
  due_ = std::chrono::steady_clock::now() + span;
  if (due_ < watchdog_.expiry()) watchdog_.cancel();
}

void Connection::end(std::string reason) {
  if (!ended_ && decision_.reason.empty()) decision_.reason = std::move(reason);
  close();
}

void Connection::close() {
  ended_ = true;
  error_code ignored;
  client_->close(ignored);
  upstream_.close(ignored);
  watchdog_.cancel();
  wake_.cancel();
}

void Connection::judge_again() {
  if (deciding_ || ended_) return;
  const Verdict verdict = core_.decide(sandbox_, head_.target);
  // A grant that was taken away may be what let this connection reach its address.
  if (!verdict.allowed || (decision_.kind == Kind::allowed && verdict.rule != decision_.rule && !verdict.grant))
    end("no longer allowed");
}

void Connection::refuse_crowded() {
  core_.add(shared_from_this());
  decision_.kind = Kind::failed;
  asio::co_spawn(
      core_.io(),
      [self = shared_from_this()]() -> awaitable<void> {
        // Named, here and below: GCC 12 destroys the temporaries of a co_await expression twice when they are braced.
        Refusal refusal{503, Kind::failed,
                        fmt::format("agentvm: {} connections are open already; close some and try again.\n",
                                    self->core_.options().limits.connections_per_sandbox)};
        co_await self->answer(std::move(refusal));
        self->close();
        self->core_.remove(*self);
        self->core_.report(self->decision_);
      },
      asio::detached);
  asio::co_spawn(core_.io(), watch(shared_from_this()), asio::detached);
}

awaitable<bool> Connection::read_head() {
  std::size_t seen = 0;
  while (!ended_) {
    HeadResult result = parse_head(input_, seen);
    if (result.fault) {
      fault_ = std::move(result.fault);
      co_return true;
    }
    if (result.head) {
      head_ = std::move(*result.head);
      input_.erase(0, result.size);
      co_return true;
    }
    seen = input_.size();
    input_.resize(seen + 4096);
    const auto [error, size] = co_await client_->async_read_some(asio::buffer(input_.data() + seen, 4096), as_result);
    input_.resize(seen + size);
    if (error) co_return false;
  }
  co_return false;
}

awaitable<std::optional<Connection::Refusal>> Connection::prepare() {
  if (!co_await read_head()) {
    if (decision_.reason.empty()) decision_.reason = "the connection ended before a request came";
    ended_ = true;
    co_return std::nullopt;
  }
  if (fault_) {
    decision_.reason = fault_->reason;
    co_return Refusal{fault_->status, Kind::malformed,
                      fmt::format("agentvm: the request is refused: {}.\n", fault_->reason)};
  }
  const Limits& limits = core_.options().limits;
  decision_.host = clean_guest_text(head_.target.host, Newlines::escape, 300);
  decision_.port = head_.target.port;
  const Verdict verdict = core_.decide(sandbox_, head_.target);
  const auto denied = [&](const std::string& reason) {
    decision_.reason = reason;
    return Refusal{403, Kind::denied,
                   fmt::format("agentvm: sandbox {} may not connect to {}:{}: {}.\nTo allow it, on the host: add the "
                               "name to egress.allow in your own configuration file (not the project's) and restart "
                               "the sandbox.\n",
                               sandbox_, decision_.host, decision_.port, reason)};
  };
  if (!verdict.allowed) co_return denied(verdict.reason);
  decision_.rule = verdict.rule;
  due_in(limits.resolve + limits.connect + milliseconds(5000));  // each has its own end; this is for mistakes of ours
  // The name is resolved once, here; what was judged is what is connected to.
  const std::string host = normal_host(head_.target.host).value_or("");
  const auto addresses = co_await resolve(host);
  if (ended_) co_return std::nullopt;
  if (addresses.empty()) {
    decision_.reason = "the name does not resolve on the host";
    co_return Refusal{502, Kind::failed, fmt::format("agentvm: {} does not resolve on the host.\n", decision_.host)};
  }
  const auto allowed = EgressPolicy::reachable(addresses, verdict.grant, core_.options().own());
  if (allowed.empty())
    co_return denied(fmt::format("its address {} is private or otherwise special, and the entry is no grant for that",
                                 addresses.front().str()));
  if (const std::string failure = co_await connect(allowed, head_.target.port); !failure.empty()) {
    if (ended_) co_return std::nullopt;
    decision_.reason = failure;
    co_return Refusal{
        502, Kind::failed,
        fmt::format("agentvm: {}:{} cannot be reached from the host: {}.\n", decision_.host, decision_.port, failure)};
  }
  // The policy may have changed while the name was looked up.
  if (const Verdict now = core_.decide(sandbox_, head_.target); !now.allowed || now.grant != verdict.grant)
    co_return denied("the policy has just changed");
  decision_.kind = Kind::allowed;
  deciding_ = false;
  co_return std::nullopt;
}

awaitable<std::vector<IpAddress>> Connection::resolve(const std::string& host) {
  auto result = std::make_shared<std::vector<IpAddress>>();
  wake_.expires_after(core_.options().limits.resolve);
  // A lookup that hangs may end after the proxy: it must not keep this connection, whose sockets belong to the proxy's
  // io_context.
  const auto done = [weak = weak_from_this(), io = &core_.io(), result](std::vector<IpAddress> addresses) {
    asio::post(*io, [weak, result, addresses = std::move(addresses)]() mutable {
      *result = std::move(addresses);
      if (const auto self = weak.lock()) self->wake_.cancel();
    });
  };
  const bool queued = core_.resolver().lookup(host, done);
  if (queued) co_await wake_.async_wait(as_result);
  co_return *result;
}

awaitable<std::string> Connection::connect(const std::vector<IpAddress>& addresses, std::uint16_t port) {
  const SteadyTime last = std::chrono::steady_clock::now() + core_.options().limits.connect;
  std::string failure = "no address answers";
  for (std::size_t i = 0; i < addresses.size() && !ended_; ++i) {
    const auto left = std::chrono::duration_cast<milliseconds>(last - std::chrono::steady_clock::now());
    if (left.count() <= 0) co_return "no answer in time";
    const asio::ip::tcp::endpoint endpoint = endpoint_of(addresses[i], port);
    error_code ignored;
    upstream_.close(ignored);
    // An address that swallows packets must leave time for the next one.
    wake_.expires_after(left / static_cast<int>(addresses.size() - i));
    wake_.async_wait([self = shared_from_this()](error_code error) {
      error_code none;
      if (!error) self->upstream_.cancel(none);
    });
    const auto [error] = co_await upstream_.async_connect(Socket::endpoint_type(endpoint), as_result);
    wake_.cancel();
    if (!error) {
      upstream_.set_option(asio::ip::tcp::no_delay(true), ignored);
      co_return "";
    }
    failure = error == asio::error::operation_aborted ? "no answer in time" : error.message();
  }
  co_return failure;
}

awaitable<void> Connection::answer(Refusal refusal) {
  decision_.kind = refusal.kind;
  deciding_ = false;
  due_in(core_.options().limits.head);
  const std::string text = fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
      refusal.status, phrase(refusal.status), refusal.text.size(), refusal.text);
  if (!co_await send(*client_, text)) co_return;
  error_code error;
  client_->shutdown(asio::socket_base::shutdown_send, error);
  due_in(farewell);
  std::array<char, 4096> rest;
  std::size_t size = 0;
  for (int i = 0; i < 64 && !error; ++i)
    std::tie(error, size) = co_await client_->async_read_some(asio::buffer(rest), as_result);
}

awaitable<bool> Connection::send(Socket& to, std::string_view data) {
  const auto [error, size] = co_await asio::async_write(to, asio::buffer(data), as_result);
  co_return !error;
}

awaitable<void> Connection::exchange() {
  due_in(idle_);
  if (head_.tunnel) {
    if (!co_await send(*client_, "HTTP/1.1 200 Connection established\r\n\r\n")) co_return;
    decision_.bytes_up += input_.size();
    if (!input_.empty() && !co_await send(upstream_, input_)) co_return;
    std::string().swap(input_);
    co_await (relay(*client_, upstream_, decision_.bytes_up) && relay(upstream_, *client_, decision_.bytes_down));
    co_return;
  }
  const auto downstream = [](Connection& self) -> awaitable<void> {
    co_await self.relay(self.upstream_, *self.client_, self.decision_.bytes_down);
    self.downstream_done_ = true;
    if (!self.ended_ && self.decision_.bytes_down == 0) {
      self.decision_.reason = "the server closed without an answer";
      co_await self.send(*self.client_, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    self.close();
  };
  co_await (upstream_direction() && downstream(*this));
}

// The request goes up; whatever follows it on this connection is read and dropped, because its answer would have to be
// framed.
awaitable<void> Connection::upstream_direction() {
  const std::string head = head_.serialise();
  if (!co_await send(upstream_, head) || !co_await send_body()) {
    // A server may answer and close before it has read everything; then its answer still goes down.
    if (fault_) end(fault_->reason);
    co_return;
  }
  std::string().swap(input_);
  std::array<char, 4096> rest;
  while (!ended_) {
    const auto [error, size] = co_await client_->async_read_some(asio::buffer(rest), as_result);
    if (error) co_return;
  }
}

awaitable<bool> Connection::send_body() {
  if (head_.body == RequestHead::Body::none) co_return true;
  if (head_.body == RequestHead::Body::chunked) co_return co_await send_chunks();
  std::uint64_t left = head_.body_bytes;
  while (left > 0 && !ended_) {
    if (input_.empty()) {
      input_.resize(buffer_bytes);
      const auto [error, size] = co_await client_->async_read_some(asio::buffer(input_), as_result);
      input_.resize(size);
      if (error) {
        fault_ = HeadFault{400, "the request's body ended early"};
        co_return false;
      }
    }
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, input_.size()));
    due_in(idle_);
    decision_.bytes_up += size;
    if (!co_await send(upstream_, std::string_view(input_).substr(0, size))) co_return false;
    left -= size;
    input_.erase(0, size);
  }
  co_return !ended_;
}

awaitable<bool> Connection::send_chunks() {
  ChunkDecoder decoder;
  std::string decoded;
  while (!ended_) {
    decoded.clear();
    input_.erase(0, decoder.feed(input_, decoded));
    if (!decoder.ok()) {
      fault_ = HeadFault{400, "the request's body is not coded as it should be"};
      co_return false;
    }
    decision_.bytes_up += decoded.size();
    if (!decoded.empty()) {
      const std::string chunk = fmt::format("{:x}\r\n{}\r\n", decoded.size(), decoded);
      if (!co_await send(upstream_, chunk)) co_return false;
    }
    if (decoder.done()) co_return co_await send(upstream_, "0\r\n\r\n");
    input_.resize(buffer_bytes);
    const auto [error, size] = co_await client_->async_read_some(asio::buffer(input_), as_result);
    input_.resize(size);
    due_in(idle_);
    if (error) {
      fault_ = HeadFault{400, "the request's body ended early"};
      co_return false;
    }
  }
  co_return false;
}

awaitable<void> Connection::relay(Socket& from, Socket& to, std::uint64_t& count) {
  std::vector<char> buffer(buffer_bytes);
  while (!ended_) {
    const auto [error, size] = co_await from.async_read_some(asio::buffer(buffer), as_result);
    if (error) {
      error_code ignored;
      to.shutdown(asio::socket_base::shutdown_send, ignored);
      // A reset is passed on as an end of everything; an orderly end leaves the other direction open.
      if (error != asio::error::eof) close();
      co_return;
    }
    count += size;
    due_in(idle_);
    if (!co_await send(to, std::string_view(buffer.data(), size))) {
      close();
      co_return;
    }
    due_in(idle_);
  }
}

}  // namespace agentvm::egress
