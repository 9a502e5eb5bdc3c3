#pragma once
// One side of TLS on a blocking socket, by OpenSSL itself: a program in a guest, or a server of the world.

#include <string>

#include <openssl/ssl.h>

#include "proxy/tls/leaf.hpp"
#include "tests/contract/egress/fixture.hpp"

namespace agentvm::egress {

class TlsPeer {
 public:
  /// A server that shows `leaf`.
  TlsPeer(int fd, const proxy::Leaf& leaf);
  struct Wish {
    std::string name;            ///< asked for
    std::string demanded = {};   ///< of the certificate; empty: the same
    std::string protocols = {};  ///< of ALPN, as they are sent
  };
  /// A client that trusts what is in the PEM file `trusted` alone.
  TlsPeer(int fd, const std::filesystem::path& trusted, const Wish& wish);
  ~TlsPeer();
  TlsPeer(const TlsPeer&) = delete;
  TlsPeer& operator=(const TlsPeer&) = delete;

  /// OpenSSL's reason why there is no connection; empty when there is.
  const std::string& problem() const { return problem_; }
  void write(std::string_view data);
  /// Less when the other side ends before.
  std::string read_exactly(std::size_t size);
  std::string read_head();
  /// The payload of a chunked body, whose coding must be in order.
  std::string read_chunked();
  /// Until the end that TLS says, or with "<cut>" behind it.
  std::string read_to_end();
  /// Says that nothing more comes; reading goes on.
  void end();

 private:
  void begin(int fd, int (*shake_hands)(SSL*));
  SSL_CTX* context_;
  SSL* session_;
  std::string problem_;
};

}  // namespace agentvm::egress
