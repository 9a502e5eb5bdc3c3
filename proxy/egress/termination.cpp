#include "proxy/egress/termination.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <fmt/format.h>
#include <openssl/crypto.h>

#include "proxy/egress/refusal.hpp"
#include "proxy/http/rewrite.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::egress {
namespace {

using asio::awaitable;
using namespace asio::experimental::awaitable_operators;
using Kind = Decision::Kind;
using Body = http::Framing::Kind;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr int interim_limit = 32;
// Of a request that is refused for its host: what holds a decoy holds it early.
constexpr std::size_t bait_body_limit_bytes = 256 * 1024;
// A command has 30 seconds; this is for mistakes of ours.
constexpr milliseconds value_limit{35'000};
constexpr milliseconds slack{5'000};

void wipe(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

/// Moves what `reader` finds in `from` to the end of `to`, as chunks or as it is, and shows it to `see`; returns how
/// much.
template <class See>
std::size_t take_all(http::BodyReader& reader, std::string& from, bool chunked, std::string& to, See see) {
  std::size_t done = 0, bytes = 0;
  while (done < from.size()) {
    const auto [used, data] = reader.take(std::string_view(from).substr(done));
    if (used == 0) break;
    done += used;
    if (data.empty()) continue;
    bytes += data.size();
    see(data);
    if (chunked) to += http::chunk_head(data.size());
    to += data;
    if (chunked) to += "\r\n";
  }
  from.erase(0, done);
  if (reader.done() && chunked) to += http::last_chunk(reader.trailers());
  return bytes;
}

}  // namespace

Termination::Termination(Connection& connection, std::shared_ptr<const SecretSet> secrets)
    : connection_(connection),
      secrets_(std::move(secrets)),
      name_(connection.target().host),
      upload_ended_(connection.core_.io()),
      hearing_ended_(connection.core_.io()) {}

bool Termination::over() const {
  return connection_.ended_;
}

awaitable<void> Termination::run() {
  bool more = co_await meet_client();
  if (!more) co_return;
  if (!connection_.bait_) co_await meet_server();
  while (more && !over()) {
    more = co_await read_request();
    if (!more || over() || connection_.caught()) break;
    if (connection_.bait_) co_await hear_body();
    if (over()) break;
    std::optional<Reply> reply = judge();
    if (!reply) {
      count_request();  // before others are judged
      reply = co_await put_secrets_in();
    }
    if (over()) break;
    if (reply) {
      co_await refuse(std::move(*reply));
      break;
    }
    if (!connection_.decision_.announced) connection_.announce();
    more = co_await exchange();
  }
  if (over()) co_return;
  client_->end(*connection_.client_);
  if (server_) server_->end(connection_.upstream_);
  co_await connection_.say_farewell("");
}

awaitable<bool> Termination::meet_client() {
  const auto leaf = secrets_->authority->leaf(name_);
  client_.emplace(TlsEnd::server(*connection_.client_, *leaf, connection_.input_));
  std::string().swap(connection_.input_);
  connection_.due_in(connection_.core_.options().limits.head);
  const std::string why = co_await client_->shake_hands(*connection_.client_);
  if (why.empty()) co_return !over();
  connection_.decision_.kind = Kind::failed;
  connection_.end(fmt::format("the program in the guest breaks off TLS, which is ended here for secrets: {}", why));
  co_return false;
}

/// What goes wrong is said to the first request: before that nobody would read it.
awaitable<void> Termination::meet_server() {
  server_.emplace(TlsEnd::client(connection_.upstream_, *secrets_->upstream, name_));
  const auto limit = connection_.core_.options().limits.connect;
  connection_.due_in(limit + slack);
  connection_.wake_.expires_after(limit);
  connection_.wake_.async_wait([self = shared_from_this()](error_code error) {
    error_code none;
    if (!error) self->connection_.upstream_.cancel(none);
  });
  unreachable_ = co_await server_->shake_hands(connection_.upstream_);
  connection_.wake_.cancel();
  connection_.due_in(connection_.core_.options().limits.head);
}

/// False when the connection is over, in order or not.
awaitable<bool> Termination::read_request() {
  fault_.reset();
  answered_ = false;
  const bool first = !connection_.decision_.announced;
  bool more = true;
  if (!first && in_.empty()) more = co_await wait_for_request();
  if (!more) co_return false;
  if (!first) connection_.due_in(connection_.core_.options().limits.head);
  for (std::size_t seen = 0; !over();) {
    auto parsed = http::parse_request(in_, seen);
    if (parsed.head) {
      request_ = std::move(*parsed.head);
      in_.erase(0, parsed.size);
      body_read_ = request_.body.kind == Body::none || (request_.body.kind == Body::sized && request_.body.bytes == 0);
      co_return true;
    }
    if (parsed.fault) {
      fault_ = std::move(parsed.fault);
      co_return true;
    }
    seen = in_.size();
    const error_code error = co_await hear(in_);
    if (!error) continue;
    if (first) connection_.end("the connection ended before a request came");
    co_return false;
  }
  co_return false;
}

/// Between two requests the server may close: its client is told, or would send the next one into nothing.
awaitable<bool> Termination::wait_for_request() {
  connection_.due_in(connection_.idle_);
  hearing_ = server_quiet_ = true;
  asio::co_spawn(connection_.core_.io(), hear_server(shared_from_this()), asio::detached);
  error_code error = asio::error::eof;  // it may have been heard at once
  if (server_quiet_) error = co_await hear(in_);
  const bool quiet = server_quiet_;
  error_code ignored;
  while (hearing_ && !over()) {
    connection_.upstream_.cancel(ignored);
    hearing_ended_.expires_after(slack);
    co_await hearing_ended_.async_wait(as_result);
  }
  co_return !error && quiet && !over();
}

awaitable<void> Termination::hear_server(std::shared_ptr<Termination> self) {
  auto& connection = self->connection_;
  error_code ignored;
  while (!self->over()) {
    self->server_quiet_ = self->server_->is_quiet(connection.upstream_);
    if (!self->server_quiet_) {
      connection.client_->cancel(ignored);
      break;
    }
    const auto [error] = co_await connection.upstream_.async_wait(asio::socket_base::wait_read, as_result);
    if (error) break;
  }
  self->hearing_ = false;
  self->hearing_ended_.cancel();
}

/// Reads what the client says within TLS.
awaitable<Termination::error_code> Termination::hear(std::string& into) {
  const auto before = into.size();
  const error_code error = co_await client_->receive(*connection_.client_, into);
  connection_.heard(std::string_view(into).substr(before));
  co_return error;
}

/// A request that is refused whatever it carries is heard to its end, or as far as a decoy would stand in it.
awaitable<void> Termination::hear_body() {
  if (fault_ || body_read_) co_return;
  http::BodyReader reader(request_.body);
  DecoyScanner whole(secrets_->search);
  std::size_t bytes = 0;
  std::string dropped;
  connection_.due_in(connection_.core_.options().limits.head);
  while (!connection_.caught() && bytes < bait_body_limit_bytes) {
    dropped.clear();
    bytes += take_all(reader, in_, false, dropped, [&](std::string_view data) {
      if (const auto decoy = whole.scan(data); !decoy.empty()) connection_.decoy_ = decoy;
    });
    if (reader.done() || reader.broken() || connection_.caught()) break;
    const error_code error = co_await hear(in_);
    if (error) break;
  }
}

Termination::Reply Termination::refused_host() const {
  const auto& refusal = *connection_.bait_;
  return {.status = refusal.status,
          .kind = refusal.kind,
          .cause = connection_.decision_.cause,
          .reason = connection_.decision_.reason,
          .text = refusal.text};
}

/// Whether the request may go on at all.
std::optional<Termination::Reply> Termination::judge() const {
  if (connection_.bait_) return refused_host();
  if (fault_) return Reply{fault_->status, Kind::malformed, Cause::allowed, fault_->reason};
  const HostPort target{name_, connection_.head_.target.port};
  const bool usual = target.port == secret_port && request_.host == name_;
  if (!usual && request_.host != target.str())
    return Reply{
        421, Kind::denied, Cause::other_name,
        fmt::format("the request is for {}, and the connection for {}", clean_guest_text(request_.host), name_)};
  if (auto stray = stray_placeholder(secrets_->uses, target, Passage::secure, request_.target, request_.fields);
      !stray.empty())
    return Reply{403, Kind::denied, Cause::placeholder, std::move(stray)};
  if (auto beyond = forbidden_use(secrets_for(secrets_->uses, target), request_); !beyond.empty())
    return Reply{403, Kind::denied, Cause::placeholder, std::move(beyond)};
  if (const auto reached = connection_.cap_reached())
    return Reply{.status = 429,
                 .kind = Kind::denied,
                 .cause = Cause::cap,
                 .reason = cap_text(*reached),
                 .advice = "The user has set that limit (egress.caps); wait, or ask them.",
                 .retry_seconds = reached->seconds};
  if (!unreachable_.empty())
    return Reply{
        502, Kind::failed, Cause::allowed, fmt::format("no TLS to {}: {}", target.str(), unreachable_),
        "Secrets are sent to nobody else; the user can see it on the host: openssl s_client -connect " + target.str()};
  return std::nullopt;
}

awaitable<std::optional<Termination::Reply>> Termination::put_secrets_in() {
  const HostPort target{name_, connection_.head_.target.port};
  for (const SecretUse* use : secrets_for(secrets_->uses, target)) {
    if (!is_wanted(*use, request_.fields)) continue;
    std::string problem;
    const auto value = co_await value_of(use->name, problem);
    if (over()) break;
    if (!value)
      co_return Reply{502, Kind::failed, Cause::allowed,
                      fmt::format("the secret {} cannot be read on the host: {}", use->name, problem),
                      fmt::format("The user can mend it in egress.secrets of their own configuration file, or where it "
                                  "says that the value is; see it on the host: agentvm status --verbose {}",
                                  connection_.sandbox_)};
    put_in(*use, value->text(), request_.fields);
  }
  co_return std::nullopt;
}

awaitable<std::shared_ptr<const SecretText>> Termination::value_of(const std::string& name, std::string& problem) {
  struct Answer {
    bool there = false;
    std::shared_ptr<const SecretText> value;
    std::string problem = "it was not read in time";
  };
  const auto answer = std::make_shared<Answer>();
  connection_.due_in(value_limit + slack);
  connection_.wake_.expires_after(value_limit);
  // The answer may come from a thread that outlives the proxy.
  const auto done = [gate = connection_.core_.gate(), weak = connection_.weak_from_this(), answer](
                        const std::shared_ptr<const SecretText>& value, const std::string& why) {
    gate->post([weak, answer, value, why] {
      *answer = {true, value, why};
      if (const auto connection = weak.lock()) connection->wake_.cancel();
    });
  };
  secrets_->values->get(name, done);
  while (!answer->there && !over()) {
    const auto [error] = co_await connection_.wake_.async_wait(as_result);
    if (!error) break;
  }
  problem = answer->problem;
  co_return answer->value;
}

/// Tokens are told in the answer, which must be readable for that.
void Termination::count_request() {
  connection_.took({.requests = 1});
  meter_.reset();
  const auto& caps = connection_.caps_;
  if (!caps || request_.method != "POST" || !caps->counts(connection_.target(), Cap::Unit::tokens)) return;
  meter_.emplace();
  std::erase_if(request_.fields,
                [](const http::Field& field) { return http::same_name(field.name, "Accept-Encoding"); });
}

/// One request and its answer. Whether another may follow.
awaitable<bool> Termination::exchange() {
  problem_.clear();
  connection_.due_in(connection_.idle_);
  std::string head = http::request_head(request_);
  for (auto& field : request_.fields) wipe(field.value);
  const bool sent = co_await to_server(head);
  wipe(head);
  bool goes_on = false;
  if (sent) {
    if (!body_read_) {
      uploading_ = true;
      upload_stop_ = false;
      asio::co_spawn(connection_.core_.io(), upload(shared_from_this()), asio::detached);
    }
    const bool answers = co_await read_response();
    if (answers) goes_on = co_await send_answer();
    if (answers && meter_ && response_.status / 100 == 2) connection_.took({.tokens = meter_->tokens()});
  }
  co_await end_upload();
  if (over() || answered_) co_return goes_on;
  Reply reply{502, Kind::failed, Cause::allowed,
              fmt::format("the answer of {} is of no use: {}", name_,
                          problem_.empty() ? "it closed the connection without one" : problem_)};
  if (fault_) reply = {fault_->status, Kind::malformed, Cause::allowed, fault_->reason};
  co_await refuse(std::move(reply));
  co_return false;
}

awaitable<bool> Termination::read_response() {
  for (int interim = 0; interim < interim_limit && !over(); ++interim) {
    for (std::size_t seen = 0;;) {
      auto parsed = http::parse_response(back_, request_.method, seen);
      if (parsed.head) {
        response_ = std::move(*parsed.head);
        back_.erase(0, parsed.size);
        break;
      }
      if (parsed.fault) {
        problem_ = std::move(parsed.fault->reason);
        co_return false;
      }
      seen = back_.size();
      const error_code error = co_await server_->receive(connection_.upstream_, back_);
      if (error) co_return false;
    }
    connection_.due_in(connection_.idle_);
    if (!response_.interim()) {
      const bool unasked = response_.status == 101 && !(response_.websocket && request_.websocket);
      if (unasked) problem_ = "it switches to a protocol that nobody asked for";
      co_return !unasked;
    }
    if (request_.minor == 0) continue;
    const std::string text = http::response_head(response_, response_.body, true);
    if (!co_await to_client(text)) co_return false;
  }
  problem_ = "it sends one interim answer after the other";
  co_return false;
}

/// Whether another request may follow.
awaitable<bool> Termination::send_answer() {
  answered_ = true;
  if (response_.websocket) {
    co_await pass_everything();
    co_return false;
  }
  const auto framing = http::framing_for_client(response_, request_.minor);
  // Whether the connection goes on must be said now. A body that is still on its way up then is not waited for.
  const bool keeps = request_.keep_alive && response_.keep_alive && body_read_ && framing.kind != Body::until_close;
  http::BodyReader reader(response_.body);
  const bool chunked = framing.kind == Body::chunked;
  std::string out = http::response_head(response_, framing, keeps);
  while (!over()) {
    connection_.decision_.bytes_down += take_all(reader, back_, chunked, out, [this](std::string_view data) {
      if (meter_) meter_->read(data);
    });
    if (reader.done() && meter_) meter_->end();
    if (reader.broken()) break;
    if (!out.empty() && !co_await to_client(out)) break;
    // Bytes after the answer belong to nothing: such a connection is not used again.
    if (reader.done()) co_return keeps&& back_.empty();
    out.clear();
    const error_code error = co_await server_->receive(connection_.upstream_, back_);
    connection_.due_in(connection_.idle_);
    if (!error) continue;
    if (error != asio::error::eof || !reader.end_of_stream()) break;
    if (meter_) meter_->end();
    const std::string last = chunked ? http::last_chunk(reader.trailers()) : std::string();
    if (last.empty() || co_await to_client(last)) co_return false;
    break;
  }
  // No client may take an answer for whole that is not.
  connection_.end("the answer broke off");
  co_return false;
}

awaitable<void> Termination::upload(std::shared_ptr<Termination> self) {
  try {
    co_await self->send_body_up();
  } catch (const std::exception& error) {
    log::warn("egress", "a request's body ended: {}", error.what());
  }
  self->uploading_ = false;
  self->upload_ended_.cancel();
}

awaitable<void> Termination::send_body_up() {
  http::BodyReader reader(request_.body);
  const bool chunked = request_.body.kind == Body::chunked;
  error_code ignored;
  DecoyScanner whole(chunked ? secrets_->search : nullptr);  // what the frames of chunks stand between
  const auto see = [&](std::string_view data) {
    if (const auto decoy = whole.scan(data); !decoy.empty()) connection_.decoy_ = decoy;
  };
  std::string out;
  while (!over() && !upload_stop_) {
    out.clear();
    connection_.decision_.bytes_up += take_all(reader, in_, chunked, out, see);
    if (reader.broken()) {
      fault_ = http::Fault{400, "the request's body is not framed as it should be"};
      connection_.upstream_.close(ignored);
      co_return;
    }
    // A server that takes no more may have answered: that is read elsewhere.
    if (!out.empty() && !co_await to_server(out)) co_return;
    if (reader.done()) {
      body_read_ = true;
      co_return;
    }
    if (upload_stop_) co_return;  // set while this was sent: nothing would end another read
    const error_code error = co_await hear(in_);
    connection_.due_in(connection_.idle_);
    if (!error || upload_stop_) continue;
    fault_ = http::Fault{400, "the request's body ended early"};
    connection_.upstream_.close(ignored);
  }
}

/// Nobody reads the rest of the body; what is in flight must be over before this is.
awaitable<void> Termination::end_upload() {
  error_code ignored;
  upload_stop_ = true;
  if (uploading_) connection_.upstream_.close(ignored);
  while (uploading_) {
    connection_.client_->cancel(ignored);
    upload_ended_.expires_after(slack);
    co_await upload_ended_.async_wait(as_result);
  }
}

/// After a websocket's 101: bytes, both ways, until both have ended.
awaitable<void> Termination::pass_everything() {
  std::string head = http::response_head(response_, response_.body, true);
  head += std::exchange(back_, {});
  const std::string early = std::exchange(in_, {});
  connection_.decision_.bytes_up += early.size();
  bool passes = co_await to_client(head);
  if (passes && !early.empty()) passes = co_await to_server(early);
  if (passes) co_await (relay_up() && relay_down());
}

awaitable<void> Termination::relay_up() {
  std::string buffer;
  while (!over()) {
    const error_code error = co_await hear(buffer);
    if (error == asio::error::eof) co_return server_->end(connection_.upstream_);
    connection_.due_in(connection_.idle_);
    connection_.decision_.bytes_up += buffer.size();
    if (error || !co_await to_server(buffer)) co_return connection_.close();
    buffer.clear();
  }
}

awaitable<void> Termination::relay_down() {
  std::string buffer;
  while (!over()) {
    const error_code error = co_await server_->receive(connection_.upstream_, buffer);
    if (error == asio::error::eof) co_return client_->end(*connection_.client_);
    connection_.due_in(connection_.idle_);
    connection_.decision_.bytes_down += buffer.size();
    if (error || !co_await to_client(buffer)) co_return connection_.close();
    buffer.clear();
  }
}

awaitable<void> Termination::refuse(Reply reply) {
  auto& decision = connection_.decision_;
  decision.kind = reply.kind;
  decision.cause = reply.cause;
  decision.reason = reply.reason;
  error_code ignored;
  connection_.upstream_.close(ignored);
  connection_.due_in(connection_.core_.options().limits.head);
  std::string body = std::move(reply.text);
  if (body.empty())
    body = fmt::format("agentvm: {}.\n{}{}", reply.reason, reply.advice, reply.advice.empty() ? "" : "\n");
  const auto retry = reply.retry_seconds > 0 ? fmt::format("Retry-After: {}\r\n", reply.retry_seconds) : std::string();
  const std::string text = fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{}Connection: "
      "close\r\n\r\n{}",
      reply.status, http::reason_phrase(reply.status), body.size(), retry, body);
  co_await to_client(text);
}

awaitable<bool> Termination::to_client(std::string_view data) {
  if (!connection_.has_room()) co_return false;
  const error_code error = co_await client_->send(*connection_.client_, data);
  connection_.due_in(connection_.idle_);
  co_return !error && !over();
}

awaitable<bool> Termination::to_server(std::string_view data) {
  if (connection_.caught() || !connection_.has_room()) co_return false;
  const error_code error = co_await server_->send(connection_.upstream_, data);
  connection_.due_in(connection_.idle_);
  co_return !error && !over();
}

}  // namespace agentvm::egress
