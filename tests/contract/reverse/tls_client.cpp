#include "tests/contract/reverse/tls_client.hpp"

#include <fmt/format.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include "vmm/base/error.hpp"

namespace agentvm::proxy {

TlsClient::TlsClient(std::uint16_t port, const fs::path& trusted, Wish wish)
    : fd_(connect_to(port)), context_(SSL_CTX_new(TLS_client_method())), session_(nullptr) {
  constexpr timeval patience{20, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_load_verify_locations(context_, trusted.c_str(), nullptr);
  // This client would speak the oldest: what is refused is refused by the server.
  SSL_CTX_set_cipher_list(context_, "ALL:@SECLEVEL=0");
  SSL_CTX_set_min_proto_version(context_, wish.least);
  SSL_CTX_set_max_proto_version(context_, wish.most);
  session_ = SSL_new(context_);
  SSL_set_fd(session_, fd_.get());
  if (!wish.name.empty()) {
    SSL_set_tlsext_host_name(session_, wish.name.c_str());
    SSL_set1_host(session_, wish.name.c_str());
  }
  if (!wish.protocols.empty())
    SSL_set_alpn_protos(session_, reinterpret_cast<const unsigned char*>(wish.protocols.data()),
                        static_cast<unsigned>(wish.protocols.size()));
  if (wish.resume) SSL_set_session(session_, wish.resume);
  ERR_clear_error();
  if (SSL_connect(session_) == 1) return;
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  problem_ = reason ? reason : "the connection ended";
}

TlsClient::~TlsClient() {
  SSL_free(session_);
  SSL_CTX_free(context_);
}

void TlsClient::write(std::string_view data) {
  ERR_clear_error();
  std::size_t size = 0;
  if (!data.empty() && SSL_write_ex(session_, data.data(), data.size(), &size) != 1)
    throw Error(ErrorCode::operation_failed, "the TLS connection takes no more");
}

std::string TlsClient::read_exactly(std::size_t size) {
  std::string text(size, '\0');
  std::size_t at = 0, got = 0;
  ERR_clear_error();
  while (at < size && SSL_read_ex(session_, text.data() + at, size - at, &got) == 1) at += got;
  text.resize(at);
  return text;
}

std::string TlsClient::read_head() {
  std::string text;
  while (!text.ends_with("\r\n\r\n")) {
    const auto byte = read_exactly(1);
    if (byte.empty()) break;
    text += byte;
  }
  return text;
}

std::string TlsClient::read_to_end() {
  std::string text;
  char buffer[16 * 1024];
  std::size_t got = 0;
  ERR_clear_error();
  while (SSL_read_ex(session_, buffer, sizeof buffer, &got) == 1) text.append(buffer, got);
  return SSL_get_error(session_, 0) == SSL_ERROR_ZERO_RETURN ? text : text + "<cut>";
}

void TlsClient::end() {
  SSL_shutdown(session_);
}

void TlsTest::begin(Limits limits, SamePort same_port) {
  authority_ = Authority::open(folder_.path() / "proxy-ca", "localhost", system_clock());
  start(limits, 1, same_port, authority_);
}

std::unique_ptr<TlsClient> TlsTest::client(TlsClient::Wish wish) const {
  return std::make_unique<TlsClient>(proxy_->site().port, authority_->certificate_file(), std::move(wish));
}

std::string TlsTest::request(const std::string& name, const std::string& more) const {
  return fmt::format("GET / HTTP/1.1\r\nHost: {}:{}\r\n{}\r\n", name, proxy_->site().port, more);
}

std::string TlsTest::get_tls(const std::string& name, const std::string& more) const {
  const auto connection = client(TlsClient::Wish{name});
  if (!connection->problem().empty()) return connection->problem();
  connection->write(request(name, "Connection: close\r\n" + more));
  return connection->read_to_end();
}

}  // namespace agentvm::proxy
