#pragma once
// One client: its requests, one after the other, and the upstream connection that belongs to it. Private; lives on its
// worker's thread.

#include "proxy/http/body.hpp"
#include "proxy/http/rewrite.hpp"
#include "proxy/reverse/buffer.hpp"
#include "proxy/reverse/pages.hpp"
#include "proxy/reverse/tls.hpp"

namespace agentvm::proxy {

/// A connection with or without TLS; without it, it is the bare socket.
struct Stream {
  Socket socket;
  std::unique_ptr<TlsSession> tls = {};
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  /// `same_port` as `decide` takes it.
  Connection(Worker& worker, Socket client, http::Forwarding forwarding, std::uint16_t same_port);
  /// Serves until either side has enough.
  static awaitable<void> run(std::shared_ptr<Connection> self);
  /// Ends what is past its deadline or leads into a machine that is gone.
  void look(SteadyTime now, const Routes& routes);
  void close();

 private:
  enum class Next { request, end };
  enum class Attempt { done, repeat };
  struct Upstream {
    std::string sandbox;
    std::uint64_t machine = 0;
    std::uint16_t port = 0;
    bool operator==(const Upstream&) const = default;
  };

  // connection.cpp: the client's side
  awaitable<void> serve();
  awaitable<bool> begin_tls();
  awaitable<bool> read_head();
  awaitable<Next> respond();
  awaitable<Next> forward(const RouteDecision& decision);
  awaitable<Next> reply(Page page);
  awaitable<void> farewell();

  // upstream.cpp: a connection into the guest
  awaitable<std::optional<Page>> connect(const RouteDecision& decision, bool fresh);
  bool reusable() const;
  void drop_upstream();
  void look_at_client();

  // exchange.cpp: one request and its answer
  awaitable<Attempt> exchange(bool may_repeat);
  awaitable<bool> read_response();
  awaitable<bool> send_body_down(const http::Response& response, const http::Framing& framing);
  awaitable<void> send_answer();
  awaitable<void> tunnel();
  awaitable<void> relay(Stream& from, Stream& to);
  static awaitable<void> upload(std::shared_ptr<Connection> self);
  awaitable<void> send_body_up();
  awaitable<void> end_upload();

  awaitable<bool> send(Stream& to, std::string_view data);
  /// More of `from` at the end of `buffer`; `asio::error::eof` at its orderly end.
  awaitable<error_code> receive(Stream& from, Buffer& buffer);
  /// Nothing more will be sent.
  static void end_sending(Stream& to);
  /// A reset: nobody takes what was sent for whole.
  void break_off();
  /// While a request is on its way.
  void due_in_quiet() { due_in(half_closed_ ? worker_.limits().half_closed : worker_.limits().quiet); }
  void due_in(milliseconds span) { due_ = std::chrono::steady_clock::now() + span; }

  Worker& worker_;
  const http::Forwarding forwarding_;
  const std::uint16_t same_port_;
  Stream client_, upstream_;  // the second never has TLS
  std::optional<Upstream> upstream_for_;
  Timer wake_, upload_ended_;
  SteadyTime due_;
  Buffer in_, back_;  // read from the client, from the upstream, and not used yet
  http::Request request_;
  http::Response response_;
  bool insecure_ = false;             // plain HTTP at a port that speaks TLS
  std::optional<http::Fault> fault_;  // of what the client sends
  std::string problem_;               // of what the server sends
  bool ended_ = false;
  bool uploading_ = false, upload_stop_ = false;
  bool body_read_ = true;  // all of the request: what comes next on the connection is another one
  bool answered_ = false;  // something of the final answer has been sent
  bool upstream_keeps_ = false;
  bool awaiting_ = false;     // the request has been sent, the answer is on its way: nobody reads from the client
  bool half_closed_ = false;  // the client will send nothing more
};

}  // namespace agentvm::proxy
