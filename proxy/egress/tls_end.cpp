#include "proxy/egress/tls_end.hpp"

#include <fmt/format.h>
#include <openssl/err.h>

#include "proxy/egress/upstream_context.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::egress {
namespace {

using asio::awaitable;
using boost::system::error_code;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t read_bytes = 16 * 1024;  // as much as one record holds

int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                    unsigned offered_size, void*) {
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, size, http_1_1, sizeof http_1_1, offered, offered_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

/// Towards guests, for all of them: certificates are set per session.
SSL_CTX* server_context() {
  static const auto context = [] {
    TlsContextHandle made(SSL_CTX_new(TLS_server_method()));
    must_be_set(made != nullptr, "a TLS context");
    restrict_tls(*made);
    SSL_CTX_set_options(made.get(), SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_alpn_select_cb(made.get(), choose_protocol, nullptr);
    return made;
  }();
  return context.get();
}

}  // namespace

TlsEnd::TlsEnd(SSL_CTX* context, Side side, Socket& socket, std::string_view begun)
    : session_(SSL_new(context)), side_(side) {
  must_be_set(session_ != nullptr, "a TLS session");
  const int fd = static_cast<int>(socket.native_handle());
  std::unique_ptr<BIO, FreeWith<BIO_free_all>> from(BIO_new_socket(fd, BIO_NOCLOSE));
  std::unique_ptr<BIO, FreeWith<BIO_free_all>> to(BIO_new_socket(fd, BIO_NOCLOSE));
  must_be_set(from && to, "the socket");
  if (!begun.empty()) {
    std::unique_ptr<BIO, FreeWith<BIO_free_all>> buffer(BIO_new(BIO_f_buffer()));
    must_be_set(buffer && BIO_set_buffer_read_data(buffer.get(), const_cast<char*>(begun.data()),
                                                   static_cast<long>(begun.size())) == 1,
                "what has come already");
    BIO_push(buffer.get(), from.release());
    from = std::move(buffer);
  }
  SSL_set_bio(session_.get(), from.release(), to.release());
}

TlsEnd TlsEnd::server(Socket& socket, const proxy::Leaf& leaf, std::string_view begun) {
  TlsEnd end(server_context(), Side::server, socket, begun);
  must_be_set(SSL_use_certificate(end.session_.get(), leaf.certificate.get()) == 1 &&
                  SSL_use_PrivateKey(end.session_.get(), leaf.key.get()) == 1,
              "the certificate");
  return end;
}

TlsEnd TlsEnd::client(Socket& socket, const UpstreamTls& tls, const std::string& name) {
  TlsEnd end(tls.context().handle.get(), Side::client, socket, {});
  auto* const session = end.session_.get();
  SSL_set_hostflags(session, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  must_be_set(SSL_set_tlsext_host_name(session, name.c_str()) == 1 && SSL_set1_host(session, name.c_str()) == 1,
              "the name of the server");
  return end;
}

/// `step` as OpenSSL's functions: above 0 when it is done.
template <class Step>
awaitable<error_code> TlsEnd::perform(Socket& socket, Step step) {
  while (true) {
    // OpenSSL knows the descriptor's number alone, and a closed one's is soon another connection's.
    if (!socket.is_open()) co_return asio::error::operation_aborted;
    if (broken_) co_return asio::error::connection_reset;
    ERR_clear_error();
    const int result = step(session_.get());
    if (result > 0) co_return error_code();
    auto wait = asio::socket_base::wait_read;
    switch (SSL_get_error(session_.get(), result)) {
      case SSL_ERROR_WANT_READ:
        break;
      case SSL_ERROR_WANT_WRITE:
        wait = asio::socket_base::wait_write;
        break;
      case SSL_ERROR_ZERO_RETURN:
        co_return asio::error::eof;
      default:
        broken_ = true;
        co_return asio::error::connection_reset;
    }
    const auto [error] = co_await socket.async_wait(wait, as_result);
    if (error) co_return error;
  }
}

std::string TlsEnd::why_not(error_code error) const {
  if (error == asio::error::operation_aborted) return "no answer in time";
  if (const long verdict = SSL_get_verify_result(session_.get()); side_ == Side::client && verdict != X509_V_OK)
    return fmt::format("its certificate is not believed: {}", X509_verify_cert_error_string(verdict));
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  return reason ? reason : "the connection ended";
}

awaitable<std::string> TlsEnd::shake_hands(Socket& socket) {
  error_code ignored;
  socket.native_non_blocking(true, ignored);
  const auto step = [side = side_](SSL* session) {
    return side == Side::server ? SSL_accept(session) : SSL_connect(session);
  };
  const error_code error = co_await perform(socket, step);
  if (error) co_return why_not(error);
  const unsigned char* chosen = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(session_.get(), &chosen, &size);
  const std::string_view protocol(reinterpret_cast<const char*>(chosen), size);
  if (!protocol.empty() && protocol != "http/1.1") co_return "it speaks another protocol than HTTP/1.1";
  co_return "";
}

awaitable<error_code> TlsEnd::receive(Socket& socket, std::string& buffer) {
  const auto held = buffer.size();
  buffer.resize(held + read_bytes);
  std::size_t size = 0;
  const error_code error = co_await perform(socket, [&buffer, held, &size](SSL* session) {
    return SSL_read_ex(session, buffer.data() + held, read_bytes, &size);
  });
  buffer.resize(held + size);
  co_return error;
}

awaitable<error_code> TlsEnd::send(Socket& socket, std::string_view data) {
  while (!data.empty()) {
    std::size_t size = 0;
    const error_code error = co_await perform(
        socket, [data, &size](SSL* session) { return SSL_write_ex(session, data.data(), data.size(), &size); });
    if (error) co_return error;
    data.remove_prefix(size);
  }
  co_return error_code();
}

void TlsEnd::end(Socket& socket) {
  if (broken_ || !socket.is_open() || !SSL_is_init_finished(session_.get())) return;
  ERR_clear_error();
  SSL_shutdown(session_.get());
  ERR_clear_error();
}

bool TlsEnd::is_quiet(Socket& socket) {
  if (broken_ || !socket.is_open()) return false;
  char byte = 0;
  std::size_t size = 0;
  ERR_clear_error();
  const int result = SSL_peek_ex(session_.get(), &byte, 1, &size);
  if (result > 0) return false;
  const int error = SSL_get_error(session_.get(), result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return true;
  if (error != SSL_ERROR_ZERO_RETURN) broken_ = true;
  return false;
}

}  // namespace agentvm::egress
