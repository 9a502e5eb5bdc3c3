#include "tests/contract/egress/tls_peer.hpp"

#include <csignal>

#include <openssl/err.h>

namespace agentvm::egress {

TlsPeer::TlsPeer(int fd, const proxy::Leaf& leaf)
    : context_(SSL_CTX_new(TLS_server_method())), session_(SSL_new(context_)) {
  SSL_use_certificate(session_, leaf.certificate.get());
  SSL_use_PrivateKey(session_, leaf.key.get());
  begin(fd, SSL_accept);
}

TlsPeer::TlsPeer(int fd, const std::filesystem::path& trusted, const Wish& wish)
    : context_(SSL_CTX_new(TLS_client_method())), session_(nullptr) {
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_load_verify_locations(context_, trusted.c_str(), nullptr);
  session_ = SSL_new(context_);
  SSL_set_tlsext_host_name(session_, wish.name.c_str());
  SSL_set1_host(session_, (wish.demanded.empty() ? wish.name : wish.demanded).c_str());
  if (!wish.protocols.empty())
    SSL_set_alpn_protos(session_, reinterpret_cast<const unsigned char*>(wish.protocols.data()),
                        static_cast<unsigned>(wish.protocols.size()));
  begin(fd, SSL_connect);
}

void TlsPeer::begin(int fd, int (*shake_hands)(SSL*)) {
  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes as it likes
  constexpr timeval patience{20, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  SSL_set_fd(session_, fd);
  ERR_clear_error();
  if (shake_hands(session_) == 1) return;
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  problem_ = reason ? reason : "the connection ended";
}

TlsPeer::~TlsPeer() {
  SSL_free(session_);
  SSL_CTX_free(context_);
}

void TlsPeer::write(std::string_view data) {
  ERR_clear_error();
  std::size_t size = 0;
  if (!data.empty() && SSL_write_ex(session_, data.data(), data.size(), &size) != 1)
    throw Error(ErrorCode::operation_failed, "the TLS connection takes no more");
}

std::string TlsPeer::read_exactly(std::size_t size) {
  std::string text(size, '\0');
  std::size_t at = 0, got = 0;
  ERR_clear_error();
  while (at < size && SSL_read_ex(session_, text.data() + at, size - at, &got) == 1) at += got;
  text.resize(at);
  return text;
}

std::string TlsPeer::read_head() {
  std::string text;
  while (!text.ends_with("\r\n\r\n")) {
    const auto byte = read_exactly(1);
    if (byte.empty()) break;
    text += byte;
  }
  return text;
}

std::string TlsPeer::read_chunked() {
  std::string body;
  while (true) {
    std::string line;
    while (!line.ends_with("\r\n")) {
      const auto byte = read_exactly(1);
      if (byte.empty()) return body + "<cut>";
      line += byte;
    }
    const auto size = std::stoul(line, nullptr, 16);
    body += read_exactly(size);
    if (read_exactly(2) != "\r\n") return body + "<cut>";
    if (size == 0) return body;
  }
}

std::string TlsPeer::read_to_end() {
  std::string text;
  char buffer[16 * 1024];
  std::size_t got = 0;
  ERR_clear_error();
  while (SSL_read_ex(session_, buffer, sizeof buffer, &got) == 1) text.append(buffer, got);
  return SSL_get_error(session_, 0) == SSL_ERROR_ZERO_RETURN ? text : text + "<cut>";
}

void TlsPeer::end() {
  SSL_shutdown(session_);
}

}  // namespace agentvm::egress
