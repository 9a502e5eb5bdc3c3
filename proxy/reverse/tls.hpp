#pragma once
// TLS on a client's socket. Private; a session lives on its worker's thread.
//
// OpenSSL reads and writes the socket itself, and Asio tells when it may go on. Asio's own stream would hold four
// buffers of 17 KB for each connection, and could not end one direction while the other goes on.

#include <string>

#include <openssl/ssl.h>

#include "proxy/reverse/buffer.hpp"
#include "proxy/reverse/worker.hpp"
#include "vmm/base/free_with.hpp"

namespace agentvm::proxy {

inline constexpr auto as_result = asio::as_tuple(asio::use_awaitable_t<Executor>());

/// What all sessions have in common: versions, protocols, no memory of sessions. Thread-safe once it is made.
class TlsContext {
 public:
  explicit TlsContext(std::shared_ptr<Authority> authority);
  SSL_CTX* get() const { return context_.get(); }
  Authority& authority() const { return *authority_; }

 private:
  std::shared_ptr<Authority> authority_;
  std::unique_ptr<SSL_CTX, FreeWith<SSL_CTX_free>> context_;
};

/// The socket is handed in with each call and must outlive it. One reader and one writer at a time.
class TlsSession {
 public:
  /// `known`: whether a name, in lower case, is one of ours; others get no certificate.
  TlsSession(const TlsContext& context, std::function<bool(const std::string& name)> known);

  /// Answers the client's hello, which nobody has read from. Any error: the connection is of no use.
  awaitable<error_code> shake_hands(Socket& socket);
  /// The name that the client asked for.
  const std::string& name() const { return name_; }

  /// As `Connection::receive`: `asio::error::eof` only after the client said so within TLS, because an end of the bare
  /// connection can be anybody's.
  awaitable<error_code> receive(Socket& socket, Buffer& buffer);
  awaitable<error_code> send(Socket& socket, std::string_view data);
  /// Says that nothing more will be sent. Never waits: a client that does not read is not told.
  void end(Socket& socket);

  enum class Peer { there, ended, gone };
  /// Whether the client is still there, while nobody receives.
  Peer look(Socket& socket);

 private:
  template <class Step>
  awaitable<error_code> perform(Socket& socket, Step step);
  static int on_server_name(SSL* session, int* alert, void* unused);
  int choose_certificate(int& alert);
  friend TlsContext;

  Authority& authority_;
  const std::function<bool(const std::string&)> known_;
  std::unique_ptr<SSL, FreeWith<SSL_free>> session_;
  std::string name_;
  bool broken_ = false;  // OpenSSL wants no other call after that
};

/// What a client's first byte says about a connection to a port that speaks TLS.
enum class Opening { tls, plain, none };
/// Waits for that byte and leaves it there.
awaitable<Opening> look_at_opening(Socket& socket);

}  // namespace agentvm::proxy
