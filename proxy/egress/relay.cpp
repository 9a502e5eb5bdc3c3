// What passes between a client and the server that was found for it.
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <fmt/format.h>

#include "proxy/egress/client_hello.hpp"
#include "proxy/egress/connection.hpp"
#include "proxy/egress/termination.hpp"

namespace agentvm::egress {
namespace {

using asio::awaitable;
using boost::system::error_code;
using namespace asio::experimental::awaitable_operators;
using Kind = Decision::Kind;

constexpr std::size_t buffer_bytes = 32 * 1024;
constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

}  // namespace

awaitable<bool> Connection::send(Socket& to, std::string_view data) {
  if (&to == &upstream_ && caught()) co_return false;
  if (!has_room()) co_return false;
  const auto [error, size] = co_await asio::async_write(to, asio::buffer(data), as_result);
  co_return !error;
}

void Connection::announce() {
  decision_.announced = true;
  core_.announce(decision_);
}

awaitable<void> Connection::exchange() {
  due_in(idle_);
  if (head_.tunnel && secrets_) {
    co_await terminated_tunnel();
    co_return;
  }
  if (head_.tunnel) {
    co_await tunnel();
    co_return;
  }
  announce();
  const auto downstream = [](Connection& self) -> awaitable<void> {
    co_await self.relay(self.upstream_, *self.client_, self.decision_.bytes_down);
    if (!self.ended_ && self.decision_.bytes_down == 0) {
      self.decision_.reason = "the server closed without an answer";
      co_await self.send(*self.client_, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    self.close();
  };
  co_await (upstream_direction() && downstream(*this));
}

awaitable<void> Connection::tunnel() {
  const std::string established =
      socks_ ? socks_answer(SocksReply::succeeded) : "HTTP/1.1 200 Connection established\r\n\r\n";
  if (!co_await send(*client_, established)) co_return;
  if (!early_.empty()) {
    decision_.bytes_down += early_.size();
    if (!co_await send(*client_, early_)) co_return;
    std::string().swap(early_);
  }
  const auto downstream = [](Connection& self) -> awaitable<void> {
    co_await self.relay(self.upstream_, *self.client_, self.decision_.bytes_down);
    if (self.plain_inside_) self.close();
  };
  co_await (tunnel_upstream() && downstream(*this));
}

awaitable<void> Connection::tunnel_upstream() {
  const bool opened = co_await open_tunnel();
  if (!opened || ended_) co_return;
  decision_.bytes_up += input_.size();
  if (!input_.empty() && !co_await send(upstream_, input_)) co_return;
  std::string().swap(input_);
  co_await relay(*client_, upstream_, decision_.bytes_up);
}

// Holds back what the client sends until it is clear whom it means; what the server sends passes meanwhile, because in
// some protocols it speaks first. False when nothing is to be relayed any more.
awaitable<bool> Connection::open_tunnel() {
  bool begun = false;
  while (true) {
    const OpeningVerdict verdict = judge_opening(input_, head_.target);
    if (verdict.opening == Opening::pass) {
      if (begins_tls(input_)) scanner_ = {};  // what it holds cannot be read
      announce();
      due_in(idle_);
      co_return true;
    }
    if (verdict.opening == Opening::request) {
      co_await tunnelled_request();
      co_return false;
    }
    if (verdict.opening == Opening::refuse) {
      decision_.cause = Cause::other_name;
      decision_.reason = verdict.reason;
      Refusal refusal{403, Kind::denied, ""};
      std::string alert = verdict.tls ? tls_refusal() : std::string();
      co_await refuse_inside(std::move(refusal), std::move(alert));
      co_return false;
    }
    if (!begun && !input_.empty()) {
      begun = true;
      due_in(core_.options().limits.head);
    }
    while (input_.size() < verdict.needed) {
      const bool more = co_await read_more();
      if (more) continue;
      // Nothing at all is a fine beginning: the server may have all the words.
      error_code ignored;
      if (input_.empty()) upstream_.shutdown(asio::socket_base::shutdown_send, ignored);
      if (!input_.empty()) end("the connection ended within its first message");
      co_return false;
    }
  }
}

// Secrets are put into what this carries: TLS for its name, or nothing.
awaitable<void> Connection::terminated_tunnel() {
  const std::string established =
      socks_ ? socks_answer(SocksReply::succeeded) : "HTTP/1.1 200 Connection established\r\n\r\n";
  if (!co_await send(*client_, established)) co_return;
  due_in(core_.options().limits.head);
  OpeningVerdict verdict = judge_opening(input_, head_.target);
  while (verdict.opening == Opening::more) {
    const bool more = co_await read_more();
    if (!more) {
      end("the connection ended within its first message");
      co_return;
    }
    verdict = judge_opening(input_, head_.target);
  }
  if (!begins_tls(input_) || verdict.opening == Opening::refuse) {
    decision_.cause = Cause::other_name;
    decision_.reason = verdict.reason.empty() ? "TLS to this host is ended here, and this is none" : verdict.reason;
    Refusal refusal{403, Kind::denied, fmt::format("agentvm: {}.\n", decision_.reason)};
    std::string bytes = verdict.tls ? tls_refusal() : http_text(refusal);
    co_await refuse_inside(std::move(refusal), std::move(bytes));
    co_return;
  }
  if (!early_.empty()) {
    end("the server speaks before TLS has begun");
    co_return;
  }
  scanner_ = DecoyScanner(secrets_->search);  // goes on with what TLS holds
  const auto termination = std::make_shared<Termination>(*this, secrets_);
  co_await termination->run();
}

// A plain request in a tunnel is treated as if it had come without one: its host is checked, it is written anew, and no
// other follows it.
awaitable<void> Connection::tunnelled_request() {
  for (std::size_t seen = 0;;) {
    HeadResult result = parse_tunnelled_head(input_, head_.target, seen);
    if (result.fault) {
      const bool other = result.fault->status == 403;
      Verdict verdict{.rule = decision_.rule, .reason = result.fault->reason, .cause = Cause::other_name};
      Refusal refusal = denied(verdict);
      if (!other) refusal = {result.fault->status, Kind::malformed, refusal.text};
      const std::string text = http_text(refusal);
      co_await refuse_inside(std::move(refusal), text);
      co_return;
    }
    if (result.head) {
      head_ = std::move(*result.head);
      input_.erase(0, result.size);
      break;
    }
    seen = input_.size();
    const bool more = co_await read_more();
    if (!more) {
      end("the connection ended within its first message");
      co_return;
    }
  }
  if (auto refusal = refuse_placeholder()) {
    const std::string text = http_text(*refusal);
    co_await refuse_inside(std::move(*refusal), text);
    co_return;
  }
  plain_inside_ = true;
  announce();
  due_in(idle_);
  co_await upstream_direction();
}

awaitable<void> Connection::refuse_inside(Refusal refusal, std::string bytes) {
  decision_.kind = refusal.kind;
  refused_inside_ = true;
  error_code ignored;
  upstream_.close(ignored);
  co_await say_farewell(bytes);
  close();
}

// The request goes up; whatever follows it on this connection is read and dropped, because its answer would have to be
// framed.
awaitable<void> Connection::upstream_direction() {
  const std::string head = asked_ ? head_.serialise_for_proxy(asked_->authorization) : head_.serialise();
  if (!co_await send(upstream_, head) || !co_await send_body()) {
    // A server may answer and close before it has read everything; then its answer still goes down.
    if (fault_) end(fault_->reason);
    co_return;
  }
  std::string().swap(input_);
  std::array<char, 4096> rest;
  while (!ended_) {
    const auto [error, size] = co_await client_->async_read_some(asio::buffer(rest), as_result);
    heard({rest.data(), size});
    if (error || caught()) co_return;
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
      heard(input_);
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
  DecoyScanner whole(set_ ? set_->search : nullptr);  // what the frames of chunks stand between
  std::string decoded;
  while (!ended_) {
    decoded.clear();
    input_.erase(0, decoder.feed(input_, decoded));
    if (!decoder.ok()) {
      fault_ = HeadFault{400, "the request's body is not coded as it should be"};
      co_return false;
    }
    if (const auto decoy = whole.scan(decoded); !decoy.empty()) decoy_ = decoy;
    decision_.bytes_up += decoded.size();
    if (!decoded.empty()) {
      const std::string chunk = fmt::format("{:x}\r\n{}\r\n", decoded.size(), decoded);
      if (!co_await send(upstream_, chunk)) co_return false;
    }
    if (decoder.done()) co_return co_await send(upstream_, "0\r\n\r\n");
    input_.resize(buffer_bytes);
    const auto [error, size] = co_await client_->async_read_some(asio::buffer(input_), as_result);
    input_.resize(size);
    heard(input_);
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
      if (refused_inside_) co_return;  // the client is being told why
      error_code ignored;
      to.shutdown(asio::socket_base::shutdown_send, ignored);
      // A reset is passed on as an end of everything; an orderly end leaves the other direction open.
      if (error != asio::error::eof) close();
      co_return;
    }
    count += size;
    due_in(idle_);
    if (&from == client_.get()) heard({buffer.data(), size});
    if (!co_await send(to, std::string_view(buffer.data(), size))) {
      close();
      co_return;
    }
    due_in(idle_);
  }
}

}  // namespace agentvm::egress
