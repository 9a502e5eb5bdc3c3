#pragma once
// A tunnel whose TLS is ended here, because secrets are put into its requests or decoys would be sent in it. Private;
// lives on the proxy's thread.
//
// client's TLS -> the server's TLS, which must be whom the tunnel was opened for -> request by request: read strictly,
// for that host alone, placeholders replaced, written anew -> its answer, framed anew. Bodies pass a piece at a time in
// both directions at once.

#include "proxy/egress/connection.hpp"
#include "proxy/egress/secrets.hpp"
#include "proxy/egress/tls_end.hpp"
#include "proxy/http/body.hpp"
#include "proxy/http/head.hpp"

namespace agentvm::egress {

class Termination : public std::enable_shared_from_this<Termination> {
 public:
  /// `connection`, whose tunnel is established, outlives it; `input_` of it holds the client's whole first message.
  Termination(Connection& connection, std::shared_ptr<const SecretSet> secrets);
  /// Until one of both sides ends.
  asio::awaitable<void> run();

 private:
  using error_code = boost::system::error_code;
  /// What the guest reads instead of the server's answer, and what the journal does.
  struct Reply {
    int status;
    Decision::Kind kind;
    Cause cause;
    std::string reason;
    std::string advice = {};
    std::int64_t retry_seconds = 0;  // 0: not said
    std::string text = {};           // the whole of what the guest reads, where it is not these two
  };
  asio::awaitable<bool> meet_client();
  asio::awaitable<void> meet_server();
  asio::awaitable<bool> read_request();
  asio::awaitable<bool> wait_for_request();
  static asio::awaitable<void> hear_server(std::shared_ptr<Termination> self);
  std::optional<Reply> judge() const;
  Reply refused_host() const;
  asio::awaitable<void> hear_body();
  asio::awaitable<error_code> hear(std::string& into);
  asio::awaitable<std::optional<Reply>> put_secrets_in();
  asio::awaitable<std::shared_ptr<const SecretText>> value_of(const std::string& name, std::string& problem);
  void count_request();
  asio::awaitable<bool> exchange();
  asio::awaitable<bool> read_response();
  asio::awaitable<bool> send_answer();
  static asio::awaitable<void> upload(std::shared_ptr<Termination> self);
  asio::awaitable<void> send_body_up();
  asio::awaitable<void> end_upload();
  asio::awaitable<void> pass_everything();
  asio::awaitable<void> relay_up();
  asio::awaitable<void> relay_down();
  asio::awaitable<void> refuse(Reply reply);
  asio::awaitable<bool> to_client(std::string_view data);
  asio::awaitable<bool> to_server(std::string_view data);
  bool over() const;

  Connection& connection_;
  const std::shared_ptr<const SecretSet> secrets_;
  const std::string name_;  // the host, as it was judged
  std::optional<TlsEnd> client_, server_;
  asio::steady_timer upload_ended_, hearing_ended_;
  std::string in_, back_;    // read from the client, from the server, and not used yet
  std::string unreachable_;  // why there is no TLS to the server
  std::string problem_;      // why its answer is none
  http::Request request_;
  http::Response response_;
  std::optional<http::Fault> fault_;
  std::optional<TokenMeter> meter_;  // of the current answer
  bool uploading_ = false, upload_stop_ = false, body_read_ = false;
  bool hearing_ = false, server_quiet_ = true;
  bool answered_ = false;  // of the current request: something has gone down
};

}  // namespace agentvm::egress
