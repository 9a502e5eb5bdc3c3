#pragma once
// One connection of a guest through the proxy. Private; lives on the proxy's thread.

#include "proxy/egress/core.hpp"
#include "proxy/egress/head.hpp"
#include "proxy/egress/opening.hpp"
#include "proxy/egress/socks.hpp"

namespace agentvm::egress {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Egress::Core& core, std::shared_ptr<Socket> client, std::string sandbox);
  const std::string& sandbox() const { return sandbox_; }
  /// Reads the request, decides, relays; ends by itself.
  static asio::awaitable<void> run(std::shared_ptr<Connection> self);
  /// Ends the connection when it waits past its current deadline.
  static asio::awaitable<void> watch(std::shared_ptr<Connection> self);
  void refuse_crowded();
  /// The policy has changed: end if this would no longer be allowed, go on if its user has answered.
  void judge_again();
  void end(std::string reason);

 private:
  friend class Termination;
  struct Refusal {
    int status;
    Decision::Kind kind;
    std::string text;  // the body: one paragraph for people
    SocksReply reply = SocksReply::failed;
    std::int64_t retry_seconds = 0;  // 0: not said
  };
  // What the client wants, and whether it gets it (connection.cpp).
  asio::awaitable<std::optional<Refusal>> prepare();
  void heard(std::string_view data);
  HostPort target() const;
  std::optional<CapReached> cap_reached() const;
  std::optional<Refusal> beyond_cap(const Verdict& verdict);
  void took(Taken taken);
  void count_bytes();
  bool has_room();
  bool caught();
  bool hangs_bait(Refusal& refusal);
  asio::awaitable<bool> read_more();
  asio::awaitable<bool> read_request();
  asio::awaitable<bool> read_head();
  asio::awaitable<bool> read_socks();
  std::optional<Refusal> refuse_placeholder();
  asio::awaitable<Verdict> ask(Verdict verdict);
  asio::awaitable<Verdict> wait_for_answer(Verdict verdict, SteadyTime due);
  static asio::awaitable<void> hear_the_end(std::shared_ptr<Connection> self);
  Refusal denied(const Verdict& verdict);
  Refusal unreachable(std::string why);
  asio::awaitable<std::optional<Refusal>> reach(const std::string& host, const Verdict& verdict);
  asio::awaitable<std::optional<Refusal>> reach_directly(const std::string& host, const Verdict& verdict,
                                                         const std::vector<IpAddress>& addresses);
  asio::awaitable<std::optional<Refusal>> reach_through(const std::string& host,
                                                        std::shared_ptr<const UpstreamProxy> proxy);
  asio::awaitable<std::string> open_through(const std::string& host, const UpstreamProxy& proxy);
  asio::awaitable<std::vector<IpAddress>> resolve(const std::string& host);
  asio::awaitable<std::string> connect(const std::vector<IpAddress>& addresses, std::uint16_t port);
  asio::awaitable<void> answer(Refusal refusal);
  asio::awaitable<void> say_farewell(std::string_view text);
  static std::string http_text(const Refusal& refusal);
  // What passes (relay.cpp).
  asio::awaitable<void> exchange();
  asio::awaitable<void> tunnel();
  asio::awaitable<bool> open_tunnel();
  asio::awaitable<void> tunnel_upstream();
  asio::awaitable<void> tunnelled_request();
  asio::awaitable<void> terminated_tunnel();
  asio::awaitable<void> refuse_inside(Refusal refusal, std::string bytes);
  void announce();
  asio::awaitable<void> relay(Socket& from, Socket& to, std::uint64_t& count);
  asio::awaitable<bool> send_body();
  asio::awaitable<bool> send_chunks();
  asio::awaitable<bool> send(Socket& to, std::string_view data);
  asio::awaitable<void> upstream_direction();
  void due_in(milliseconds span);
  void close();

  Egress::Core& core_;
  std::shared_ptr<Socket> client_;
  Socket upstream_;
  asio::steady_timer watchdog_, wake_;
  SteadyTime due_;
  std::string sandbox_;
  std::string input_;                           // read from the client, not yet used
  std::string early_;                           // read from the server through a proxy's tunnel, not yet passed on
  std::shared_ptr<const UpstreamProxy> asked_;  // the proxy that gets the plain request
  RequestHead head_;
  const std::shared_ptr<const SecretSet> set_;  // of the sandbox; may be nothing
  const std::shared_ptr<CapLedger> caps_;       // likewise
  std::shared_ptr<const SecretSet> secrets_;    // with it TLS is ended here
  std::optional<Refusal> bait_;                 // TLS is ended here only to hear what comes, and to say this
  DecoyScanner scanner_;                        // of what the client sends
  std::string decoy_;                           // the one that it has sent
  std::optional<HeadFault> fault_;
  std::optional<SocksReply> socks_fault_;
  bool socks_ = false, socks_greeted_ = false;
  bool deciding_ = true, ended_ = false;
  bool held_ = false;            // waits for the user's answer
  bool hearing_ = false;         // `hear_the_end` reads from the client
  bool plain_inside_ = false;    // the tunnel carries one plain request
  bool refused_inside_ = false;  // the tunnel was refused for what came through it; the client is being told
  milliseconds idle_;
  Decision decision_;
  std::uint64_t counted_bytes_ = 0;  // those of decision_ that caps_ knows
};

}  // namespace agentvm::egress
