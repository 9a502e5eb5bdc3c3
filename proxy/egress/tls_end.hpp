#pragma once
// One end of TLS on a socket of a connection whose TLS is ended here. Private; lives on the proxy's thread.
//
// As in the reverse proxy OpenSSL reads and writes the socket itself, and Asio tells when it may go on; here it is
// either side, and bytes that were read before count as the first.

#include <memory>
#include <string>

#include <openssl/ssl.h>

#include "proxy/egress/core.hpp"
#include "proxy/egress/upstream_tls.hpp"
#include "proxy/tls/leaf.hpp"
#include "vmm/base/free_with.hpp"

namespace agentvm::egress {

/// The socket is handed in with each call and must outlive it. One reader and one writer at a time.
class TlsEnd {
 public:
  /// Towards a client: shows `leaf`. `begun`: what it has sent already.
  static TlsEnd server(Socket& socket, const proxy::Leaf& leaf, std::string_view begun);
  /// Towards a server, which must prove to be `name`.
  static TlsEnd client(Socket& socket, const UpstreamTls& tls, const std::string& name);

  /// Empty when both sides agree, else why not: one line, safe to show.
  asio::awaitable<std::string> shake_hands(Socket& socket);
  /// Appends to `buffer` at most 16 KiB. `eof` only after the other side said so within TLS: an end of the bare
  /// connection can be anybody's.
  asio::awaitable<boost::system::error_code> receive(Socket& socket, std::string& buffer);
  asio::awaitable<boost::system::error_code> send(Socket& socket, std::string_view data);
  /// Says that nothing more will be sent. Never waits.
  void end(Socket& socket);
  /// Whether the other side has neither ended nor sent anything. Never waits.
  bool is_quiet(Socket& socket);

 private:
  enum class Side { server, client };
  TlsEnd(SSL_CTX* context, Side side, Socket& socket, std::string_view begun);
  template <class Step>
  asio::awaitable<boost::system::error_code> perform(Socket& socket, Step step);
  std::string why_not(boost::system::error_code error) const;

  std::unique_ptr<SSL, FreeWith<SSL_free>> session_;
  Side side_;
  bool broken_ = false;  // OpenSSL wants no other call after that
};

}  // namespace agentvm::egress
