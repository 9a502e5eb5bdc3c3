// One request and its answer: the body goes up in a coroutine of its own while the answer is read.
#include <boost/asio/experimental/awaitable_operators.hpp>

#include "proxy/reverse/connection.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::proxy {
namespace {

using namespace asio::experimental::awaitable_operators;
using Kind = http::Framing::Kind;

constexpr int interim_limit = 32;

/// Moves what `reader` finds in `from` to the end of `to`, as chunks or as it is.
void take_all(http::BodyReader& reader, Buffer& from, bool chunked, std::string& to) {
  while (!from.empty()) {
    const auto [used, data] = reader.take(from.view());
    if (used == 0) break;
    from.consume(used);
    if (data.empty()) continue;
    if (chunked) to += http::chunk_head(data.size());
    to += data;
    if (chunked) to += "\r\n";
  }
  if (reader.done() && chunked) to += http::last_chunk(reader.trailers());
}

}  // namespace

/// `repeat`: the connection was an old one and the server had closed it, so that nothing has happened yet.
awaitable<Connection::Attempt> Connection::exchange(bool may_repeat) {
  problem_.clear();
  upstream_keeps_ = false;
  const std::string head = http::request_head(request_, forwarding_);
  if (!co_await send(upstream_, head)) {
    if (may_repeat && !ended_) co_return Attempt::repeat;
    problem_ = "it closed the connection";
  } else {
    if (!body_read_) {
      uploading_ = true;
      upload_stop_ = false;
      asio::co_spawn(*worker_.io(), upload(shared_from_this()), asio::detached);
    }
    awaiting_ = true;
    if (co_await read_response())
      co_await send_answer();
    else if (may_repeat && !ended_ && problem_.empty())
      co_return Attempt::repeat;
    else if (problem_.empty())
      problem_ = "it closed the connection without an answer";
  }
  awaiting_ = false;
  co_await end_upload();
  co_return Attempt::done;
}

/// False when there is no answer: `problem_` says why, unless nothing at all came.
awaitable<bool> Connection::read_response() {
  for (int interim = 0; interim < interim_limit; ++interim) {
    for (std::size_t seen = 0;;) {
      auto parsed = http::parse_response(back_.view(), request_.method, seen);
      if (parsed.head) {
        response_ = std::move(*parsed.head);
        back_.consume(parsed.size);
        break;
      }
      if (parsed.fault) {
        problem_ = std::move(parsed.fault->reason);
        co_return false;
      }
      seen = back_.size();
      if (co_await receive(upstream_, back_)) {
        if (seen > 0 || interim > 0) problem_ = "it closed the connection in the middle of its answer";
        co_return false;
      }
    }
    due_in_quiet();
    if (!response_.interim()) {
      const bool unasked = response_.status == 101 && !(response_.websocket && request_.websocket);
      if (unasked) problem_ = "it switches to a protocol that nobody asked for";
      co_return !unasked;
    }
    if (request_.minor == 0) continue;
    const std::string text = http::response_head(response_, response_.body, true);
    if (!co_await send(client_, text)) {
      close();
      co_return false;
    }
  }
  problem_ = "it sends one interim answer after the other";
  co_return false;
}

awaitable<void> Connection::send_answer() {
  if (response_.websocket) co_return co_await tunnel();
  const auto framing = http::framing_for_client(response_, request_.minor);
  // Whether the connection goes on must be said now. A body that is still on its way up then is not waited for.
  if (!body_read_ || framing.kind == Kind::until_close) request_.keep_alive = false;
  answered_ = true;
  if (!co_await send_body_down(response_, framing)) {
    if (!ended_) break_off();
    co_return;
  }
  // Bytes after the answer belong to nothing: such a connection is not used again.
  upstream_keeps_ = response_.keep_alive && body_read_ && back_.empty();
}

awaitable<bool> Connection::send_body_down(const http::Response& response, const http::Framing& framing) {
  http::BodyReader reader(response.body);
  const bool chunked = framing.kind == Kind::chunked;
  std::string out = http::response_head(response, framing, request_.keep_alive);
  while (true) {
    take_all(reader, back_, chunked, out);
    if (reader.broken()) co_return false;
    if (!out.empty() && !co_await send(client_, out)) co_return false;
    if (reader.done()) co_return true;
    out.clear();
    due_in_quiet();
    const error_code error = co_await receive(upstream_, back_);
    if (!error) continue;
    if (error != asio::error::eof || !reader.end_of_stream()) co_return false;
    const std::string last = chunked ? http::last_chunk(reader.trailers()) : std::string();
    co_return last.empty() || co_await send(client_, last);
  }
}

awaitable<void> Connection::upload(std::shared_ptr<Connection> self) {
  try {
    co_await self->send_body_up();
  } catch (const std::exception& error) {
    log::warn("proxy", "a request's body ended: {}", error.what());
  }
  self->uploading_ = false;
  self->upload_ended_.cancel();
}

awaitable<void> Connection::send_body_up() {
  http::BodyReader reader(request_.body);
  const bool chunked = request_.body.kind == Kind::chunked;
  error_code ignored;
  std::string out;
  while (!ended_ && !upload_stop_) {
    out.clear();
    take_all(reader, in_, chunked, out);
    if (reader.broken()) {
      fault_ = http::Fault{400, "the request's body is not framed as it should be"};
      upstream_.socket.close(ignored);
      co_return;
    }
    // A server that takes no more may have answered: that is read elsewhere.
    if (!out.empty() && !co_await send(upstream_, out)) co_return;
    due_in_quiet();
    if (reader.done()) {
      body_read_ = true;
      co_return;
    }
    if (upload_stop_) co_return;  // set while this was sent: nothing would end another read
    if (!co_await receive(client_, in_) || upload_stop_) continue;
    fault_ = http::Fault{400, "the request's body ended early"};
    upstream_.socket.close(ignored);
  }
}

/// Nobody reads the rest of the body; what is in flight must be over before the sockets serve anything else.
awaitable<void> Connection::end_upload() {
  if (!uploading_) co_return;
  upload_stop_ = true;
  error_code ignored;
  upstream_.socket.close(ignored);
  client_.socket.cancel(ignored);
  while (uploading_) {
    upload_ended_.expires_after(worker_.limits().head);
    co_await upload_ended_.async_wait(as_result);
  }
}

awaitable<void> Connection::tunnel() {
  answered_ = true;
  awaiting_ = false;
  request_.keep_alive = false;
  std::string head = http::response_head(response_, response_.body, true);
  head += back_.view();
  const std::string early(in_.view());
  in_ = {};
  back_ = {};
  due_in(worker_.limits().tunnel);
  if (co_await send(client_, head) && (early.empty() || co_await send(upstream_, early)))
    co_await (relay(client_, upstream_) && relay(upstream_, client_));
  close();
}

/// The end of one direction is passed on and leaves the other one open; a reset ends both.
awaitable<void> Connection::relay(Stream& from, Stream& to) {
  Buffer buffer;
  while (!ended_) {
    const error_code error = co_await receive(from, buffer);
    if (error == asio::error::eof) {
      end_sending(to);
      co_return;
    }
    due_in(worker_.limits().tunnel);
    if (error || !co_await send(to, buffer.view())) co_return close();
    buffer.clear();
  }
}

}  // namespace agentvm::proxy
