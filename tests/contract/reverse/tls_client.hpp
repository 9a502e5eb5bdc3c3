#pragma once
// A browser's side of TLS: OpenSSL's own client, which trusts the authority of the test and nobody else.

#include <openssl/ssl.h>

#include "proxy/tls/authority.hpp"
#include "tests/contract/reverse/fixture.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::proxy {

class TlsClient {
 public:
  struct Wish {
    std::string name;  ///< asked for, and demanded of the certificate; empty: not asked
    int least = TLS1_2_VERSION, most = 0;
    std::string protocols = {};  ///< of ALPN, as they are sent
    SSL_SESSION* resume = nullptr;
  };
  TlsClient(std::uint16_t port, const fs::path& trusted, Wish wish);
  ~TlsClient();
  TlsClient(const TlsClient&) = delete;

  /// OpenSSL's reason why there is no connection; empty when there is.
  const std::string& problem() const { return problem_; }
  void write(std::string_view data);
  std::string read_head();
  std::string read_exactly(std::size_t size);
  /// Until the end that TLS says, or "<cut>".
  std::string read_to_end();
  /// Says that nothing more comes; reading goes on.
  void end();
  SSL* session() const { return session_; }
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  SSL_CTX* context_;
  SSL* session_;
  std::string problem_;
};

class TlsTest : public ReverseTest {
 protected:
  void begin(Limits limits = {}, SamePort same_port = SamePort::off);
  std::unique_ptr<TlsClient> client(const char* name) const { return client(TlsClient::Wish{name}); }
  std::unique_ptr<TlsClient> client(TlsClient::Wish wish) const;
  /// A whole answer to one request, by a connection of its own.
  std::string get_tls(const std::string& name, const std::string& more = "") const;
  std::string request(const std::string& name, const std::string& more = "") const;

  test::TemporaryFolder folder_;
  std::shared_ptr<Authority> authority_;
};

}  // namespace agentvm::proxy
