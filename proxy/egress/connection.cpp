#include "proxy/egress/connection.hpp"

#include <fmt/format.h>

#include "proxy/egress/refusal.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::egress {
namespace {

using asio::awaitable;
using boost::system::error_code;
using Kind = Decision::Kind;

constexpr std::size_t read_bytes = 4096;
// After a refusal the client gets this long to take it before its connection is closed over its unread bytes.
constexpr milliseconds farewell{1000};
constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

std::string_view phrase(int status) {
  switch (status) {
    case 403:
      return "Forbidden";
    case 429:
      return "Too Many Requests";
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
      set_(core.secrets_of(sandbox_)),
      caps_(core.caps(sandbox_)),
      scanner_(set_ ? set_->search : nullptr),
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
  self->caught();
  self->count_bytes();
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
  if (ended_ || (deciding_ && !held_)) return;
  const Verdict verdict = core_.decide(sandbox_, head_.target);
  if (held_) {
    held_ = verdict.ask;
    if (!held_) wake_.cancel();
    return;
  }
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

/// `data` came from the client.
void Connection::heard(std::string_view data) {
  if (const auto decoy = scanner_.scan(data); !decoy.empty() && decoy_.empty()) decoy_ = decoy;
}

/// Whether the client has sent a decoy: then this and all connections of its sandbox end.
bool Connection::caught() {
  if (decoy_.empty()) return false;
  if (decision_.cause == Cause::decoy) return true;
  decision_.kind = Kind::denied;
  decision_.cause = Cause::decoy;
  const auto where = decision_.host.empty() ? "the proxy" : HostPort{decision_.host, decision_.port}.str();
  decision_.reason = fmt::format("the decoy {} was sent to {}; nobody should use it", decoy_, where);
  core_.decoy_was_sent(decision_);
  close();
  return true;
}

HostPort Connection::target() const {
  return {normal_host(head_.target.host).value_or(""), head_.target.port};
}

std::optional<CapReached> Connection::cap_reached() const {
  return caps_ ? caps_->reached(target(), system_clock().unix_seconds()) : std::nullopt;
}

void Connection::took(Taken taken) {
  decision_.requests += taken.requests;
  decision_.tokens += taken.tokens;
  if (caps_) caps_->add(target(), taken, system_clock().unix_seconds());
}

void Connection::count_bytes() {
  const auto bytes = decision_.bytes_up + decision_.bytes_down;
  if (caps_) took({.bytes = bytes - std::exchange(counted_bytes_, bytes)});
}

/// Counts what has passed. False when it may be no more: then the connection ends. What is refused is said all the
/// same.
bool Connection::has_room() {
  if (!caps_ || decision_.kind != Kind::allowed) return true;
  count_bytes();
  const auto reached = caps_->reached(target(), system_clock().unix_seconds(), Cap::Unit::bytes);
  if (!reached) return true;
  end(cap_text(*reached));
  return false;
}

/// Whether a tunnel that comes to nothing is opened all the same, to hear what would have been sent; then `refusal` is
/// for whoever sends no decoy.
bool Connection::hangs_bait(Refusal& refusal) {
  if (!head_.tunnel || !set_ || !set_->authority || !set_->is_bait(target())) return false;
  decision_.kind = refusal.kind;
  deciding_ = false;
  secrets_ = set_;
  bait_ = std::move(refusal);
  return true;
}

awaitable<bool> Connection::read_more() {
  const auto seen = input_.size();
  input_.resize(seen + read_bytes);
  const auto [error, size] =
      co_await client_->async_read_some(asio::buffer(input_.data() + seen, read_bytes), as_result);
  input_.resize(seen + size);
  heard(std::string_view(input_).substr(seen));
  co_return !error && !ended_;
}

awaitable<bool> Connection::read_request() {
  if (!co_await read_more()) co_return false;
  socks_ = input_[0] == socks_version;
  bool read = false;
  if (socks_)
    read = co_await read_socks();
  else
    read = co_await read_head();
  if (!socks_ && head_.tunnel) decision_.protocol = Decision::Protocol::connect;
  co_return read;
}

awaitable<bool> Connection::read_head() {
  for (std::size_t seen = 0;;) {
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
    if (!co_await read_more()) co_return false;
  }
}

awaitable<bool> Connection::read_socks() {
  decision_.protocol = Decision::Protocol::socks5;
  const auto refuse = [&](const SocksFault& fault) {
    fault_ = HeadFault{400, fault.reason};
    socks_fault_ = fault.reply;
    return true;
  };
  SocksGreeting greeting = parse_socks_greeting(input_);
  while (greeting.size == 0 && !greeting.fault) {
    if (!co_await read_more()) co_return false;
    greeting = parse_socks_greeting(input_);
  }
  if (greeting.fault) co_return refuse(*greeting.fault);
  if (!greeting.no_authentication) co_return refuse({SocksReply::failed, "the SOCKS client insists on authentication"});
  input_.erase(0, greeting.size);
  const std::string method = socks_method(true);
  if (!co_await send(*client_, method)) co_return false;
  socks_greeted_ = true;
  SocksRequest request = parse_socks_request(input_);
  while (request.incomplete()) {
    if (!co_await read_more()) co_return false;
    request = parse_socks_request(input_);
  }
  if (request.fault) co_return refuse(*request.fault);
  head_.tunnel = true;
  head_.target = std::move(*request.target);
  input_.erase(0, request.size);
  co_return true;
}

Connection::Refusal Connection::denied(const Verdict& verdict) {
  decision_.reason = verdict.reason;
  decision_.rule = verdict.rule;
  decision_.cause = verdict.cause;
  return {403, Kind::denied, refusal_text(sandbox_, {decision_.host, decision_.port}, verdict),
          SocksReply::not_allowed};
}

awaitable<std::optional<Connection::Refusal>> Connection::prepare() {
  const bool read = co_await read_request();
  decision_.host = clean_guest_text(head_.target.host, Newlines::escape, 300);
  decision_.port = head_.target.port;
  if (caught()) co_return std::nullopt;
  if (!read) {
    if (decision_.reason.empty()) decision_.reason = "the connection ended before a request came";
    ended_ = true;
    co_return std::nullopt;
  }
  if (fault_) {
    decision_.reason = fault_->reason;
    co_return Refusal{fault_->status, Kind::malformed,
                      fmt::format("agentvm: the request is refused: {}.\n", fault_->reason),
                      socks_fault_.value_or(SocksReply::failed)};
  }
  const Limits& limits = core_.options().limits;
  if (auto refusal = refuse_placeholder()) co_return refusal;
  Verdict verdict = core_.decide(sandbox_, head_.target);
  if (verdict.ask) verdict = co_await ask(std::move(verdict));
  if (ended_) co_return std::nullopt;
  if (!verdict.allowed) {
    auto refusal = denied(verdict);
    if (verdict.cause != Cause::frozen && hangs_bait(refusal)) co_return std::nullopt;
    co_return refusal;
  }
  decision_.rule = verdict.rule;
  decision_.cause = Cause::allowed;
  // Each has its own end; this is for mistakes of ours.
  due_in(2 * limits.resolve + 2 * limits.connect + milliseconds(5000));
  if (head_.tunnel && set_ && (set_->ends_tls(target()) || (caps_ && caps_->needs_tls(target())))) secrets_ = set_;
  if (secrets_ && !secrets_->authority) co_return unreachable(secrets_->no_authority);
  if (auto refusal = beyond_cap(verdict)) co_return refusal;
  auto refusal = co_await reach(target().host, verdict);
  if (ended_ || (refusal && hangs_bait(*refusal))) co_return std::nullopt;
  if (refusal) co_return refusal;
  // The policy may have changed while the name was looked up.
  Verdict now = core_.decide(sandbox_, head_.target);
  if (now.allowed && now.grant != verdict.grant) now = {.reason = "the policy has just changed", .cause = now.cause};
  if (!now.allowed || now.grant != verdict.grant) co_return denied(now);
  if (auto used_up = beyond_cap(verdict)) co_return used_up;  // by others, meanwhile
  if (!secrets_) took({.requests = 1});                       // within TLS that is ended here each is counted
  decision_.kind = Kind::allowed;
  deciding_ = false;
  co_return std::nullopt;
}

/// Within TLS that is ended here it is said there, where a program reads it.
std::optional<Connection::Refusal> Connection::beyond_cap(const Verdict& verdict) {
  const auto reached = secrets_ ? std::nullopt : cap_reached();
  if (!reached) return std::nullopt;
  auto refusal = denied({.rule = verdict.rule, .reason = cap_text(*reached), .cause = Cause::cap});
  refusal.status = 429;
  refusal.retry_seconds = reached->seconds;
  return refusal;
}

/// Of plain requests, which are seen: also of one that would be refused for its host, because this says more.
std::optional<Connection::Refusal> Connection::refuse_placeholder() {
  if (head_.tunnel || !set_) return std::nullopt;
  http::Fields fields;
  for (const auto& [name, value] : head_.headers) fields.push_back({name, value});
  const HostPort target{decision_.host, head_.target.port};
  auto reason = stray_placeholder(set_->uses, target, Passage::plain, head_.path, fields);
  if (reason.empty()) return std::nullopt;
  return denied({.reason = std::move(reason), .cause = Cause::placeholder});
}

Connection::Refusal Connection::unreachable(std::string why) {
  decision_.reason = std::move(why);
  return {502, Kind::failed,
          fmt::format("agentvm: {}:{} cannot be reached from the host: {}.\n", decision_.host, decision_.port,
                      decision_.reason),
          SocksReply::refused};
}

// Connects to what was judged. Behind a proxy names are sent on as they are: only addresses in requests, and the names
// of grants, which may be those of this network, are looked at here.
awaitable<std::optional<Connection::Refusal>> Connection::reach(const std::string& host, const Verdict& verdict) {
  auto proxy = core_.upstream_for({host, head_.target.port});
  const bool literal = IpAddress::parse(host).has_value();
  if (proxy && !literal && !verdict.grant) co_return co_await reach_through(host, std::move(proxy));
  const auto addresses = co_await resolve(host);  // once: what is judged is what is connected to
  if (ended_) co_return std::nullopt;
  const bool near = !addresses.empty() && EgressPolicy::reachable(addresses, false, core_.options().own()).empty();
  if (proxy && !near) co_return co_await reach_through(host, std::move(proxy));
  co_return co_await reach_directly(host, verdict, addresses);
}

awaitable<std::optional<Connection::Refusal>> Connection::reach_directly(const std::string& host,
                                                                         const Verdict& verdict,
                                                                         const std::vector<IpAddress>& addresses) {
  if (addresses.empty()) {
    decision_.reason = "the name does not resolve on the host";
    co_return Refusal{502, Kind::failed, fmt::format("agentvm: {} does not resolve on the host.\n", host),
                      SocksReply::host_unreachable};
  }
  const auto allowed = EgressPolicy::reachable(addresses, verdict.grant, core_.options().own());
  if (allowed.empty()) {
    Verdict special{.rule = verdict.rule, .cause = Cause::special_address};
    special.reason = fmt::format("its address {} is private or otherwise special, and the entry is no grant for that",
                                 addresses.front().str());
    co_return denied(special);
  }
  std::string failure = co_await connect(allowed, head_.target.port);
  if (failure.empty()) co_return std::nullopt;
  co_return unreachable(std::move(failure));
}

awaitable<std::optional<Connection::Refusal>> Connection::reach_through(const std::string& host,
                                                                        std::shared_ptr<const UpstreamProxy> proxy) {
  const auto addresses = co_await resolve(proxy->address.host);
  std::string failure = "its name does not resolve on the host";
  if (!addresses.empty()) failure = co_await connect(addresses, proxy->address.port);
  if (failure.empty() && head_.tunnel) failure = co_await open_through(host, *proxy);
  if (!failure.empty()) co_return unreachable(fmt::format("through the proxy {}: {}", proxy->str(), failure));
  if (!head_.tunnel) asked_ = std::move(proxy);
  co_return std::nullopt;
}

/// Empty when the proxy leads to the target now, else why it does not.
awaitable<std::string> Connection::open_through(const std::string& host, const UpstreamProxy& proxy) {
  const std::string request = tunnel_request(proxy, {host, head_.target.port});
  wake_.expires_after(core_.options().limits.connect);
  wake_.async_wait([self = shared_from_this()](error_code error) {
    error_code none;
    if (!error) self->upstream_.cancel(none);
  });
  TunnelAnswer answer{.incomplete = true};
  bool more = co_await send(upstream_, request);
  while (more && answer.incomplete) {
    const auto seen = early_.size();
    early_.resize(seen + read_bytes);
    const auto [error, size] =
        co_await upstream_.async_read_some(asio::buffer(early_.data() + seen, read_bytes), as_result);
    early_.resize(seen + size);
    more = !error && !ended_;
    if (more) answer = parse_tunnel_answer(early_);
  }
  wake_.cancel();
  if (answer.incomplete) co_return "it does not answer";
  if (!answer.open) co_return answer.problem;
  early_.erase(0, answer.size);
  co_return "";
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

std::string Connection::http_text(const Refusal& refusal) {
  const auto retry =
      refusal.retry_seconds > 0 ? fmt::format("Retry-After: {}\r\n", refusal.retry_seconds) : std::string();
  return fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{}Connection: "
      "close\r\n\r\n{}",
      refusal.status, phrase(refusal.status), refusal.text.size(), retry, refusal.text);
}

awaitable<void> Connection::answer(Refusal refusal) {
  if (caught()) co_return;
  decision_.kind = refusal.kind;
  deciding_ = false;
  std::string text = socks_ ? socks_answer(refusal.reply) : http_text(refusal);
  if (socks_ && !socks_greeted_) text = socks_method(false);
  co_await say_farewell(text);
}

awaitable<void> Connection::say_farewell(std::string_view text) {
  due_in(core_.options().limits.head);
  if (!co_await send(*client_, text)) co_return;
  error_code error;
  client_->shutdown(asio::socket_base::shutdown_send, error);
  due_in(farewell);
  std::array<char, 4096> rest;
  std::size_t size = 0;
  for (int i = 0; i < 64 && !error && !caught(); ++i) {
    std::tie(error, size) = co_await client_->async_read_some(asio::buffer(rest), as_result);
    heard({rest.data(), size});
  }
}

}  // namespace agentvm::egress
