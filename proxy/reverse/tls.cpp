#include "proxy/reverse/tls.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include "proxy/tls/authority.hpp"
#include "proxy/tls/leaf.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::proxy {
namespace {

constexpr char handshake_record = 0x16;
constexpr unsigned char http_1_1[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

void must_be_set(bool good, std::string_view what) {
  if (good) return;
  ERR_clear_error();
  throw Error(ErrorCode::operation_failed, fmt::format("OpenSSL refuses {}", what));
}

/// HTTP/1.1 or nothing: a client that insists on another protocol would take our answers for that.
int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                    unsigned offered_size, void*) {
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, size, http_1_1, sizeof http_1_1, offered, offered_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

TlsContext::TlsContext(std::shared_ptr<Authority> authority)
    : authority_(std::move(authority)), context_(SSL_CTX_new(TLS_server_method())) {
  auto* const context = context_.get();
  must_be_set(context != nullptr, "a TLS context");
  must_be_set(SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1, "TLS 1.2 as the least");
  must_be_set(SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1, "the ciphers");
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  // No session outlives its connection: on the loopback a handshake is cheap, and each asks anew whose the name is.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  must_be_set(SSL_CTX_set_num_tickets(context, 0) == 1, "no tickets");
  // Idle connections then hold no buffers for records.
  SSL_CTX_set_mode(context,
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_tlsext_servername_callback(context, &TlsSession::on_server_name);
  SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);
}

TlsSession::TlsSession(const TlsContext& context, std::function<bool(const std::string& name)> known)
    : authority_(context.authority()), known_(std::move(known)), session_(SSL_new(context.get())) {
  must_be_set(session_ != nullptr, "a TLS session");
  SSL_set_app_data(session_.get(), this);
}

int TlsSession::on_server_name(SSL* session, int* alert, void*) {
  return static_cast<TlsSession*>(SSL_get_app_data(session))->choose_certificate(*alert);
}

/// Called without a name, too.
int TlsSession::choose_certificate(int& alert) {
  alert = SSL_AD_UNRECOGNIZED_NAME;
  try {
    const char* const asked = SSL_get_servername(session_.get(), TLSEXT_NAMETYPE_host_name);
    if (!asked) return SSL_TLSEXT_ERR_ALERT_FATAL;
    name_ = asked;
    std::transform(name_.begin(), name_.end(), name_.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    if (!known_(name_)) return SSL_TLSEXT_ERR_ALERT_FATAL;
    const auto leaf = authority_.leaf(name_);
    if (SSL_use_certificate(session_.get(), leaf->certificate.get()) == 1 &&
        SSL_use_PrivateKey(session_.get(), leaf->key.get()) == 1)
      return SSL_TLSEXT_ERR_OK;
  } catch (const std::exception& error) {
    log::warn("proxy", "no certificate for a dev server: {}", error.what());
  }
  alert = SSL_AD_INTERNAL_ERROR;
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/// `step` as OpenSSL's functions: above 0 when it is done.
template <class Step>
awaitable<error_code> TlsSession::perform(Socket& socket, Step step) {
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

awaitable<error_code> TlsSession::shake_hands(Socket& socket) {
  if (SSL_set_fd(session_.get(), socket.native_handle()) != 1) co_return asio::error::no_memory;
  co_return co_await perform(socket, [](SSL* session) { return SSL_accept(session); });
}

awaitable<error_code> TlsSession::receive(Socket& socket, Buffer& buffer) {
  const auto room = buffer.prepare();
  std::size_t size = 0;
  const auto error = co_await perform(
      socket, [room, &size](SSL* session) { return SSL_read_ex(session, room.data(), room.size(), &size); });
  buffer.commit(size);
  co_return error;
}

awaitable<error_code> TlsSession::send(Socket& socket, std::string_view data) {
  while (!data.empty()) {
    std::size_t size = 0;
    const auto error = co_await perform(
        socket, [data, &size](SSL* session) { return SSL_write_ex(session, data.data(), data.size(), &size); });
    if (error) co_return error;
    data.remove_prefix(size);
  }
  co_return error_code();
}

void TlsSession::end(Socket& socket) {
  if (broken_ || !socket.is_open() || !SSL_is_init_finished(session_.get())) return;
  ERR_clear_error();
  SSL_shutdown(session_.get());
  ERR_clear_error();
}

TlsSession::Peer TlsSession::look(Socket& socket) {
  if (broken_ || !socket.is_open()) return Peer::gone;
  char byte = 0;
  std::size_t size = 0;
  ERR_clear_error();
  const int result = SSL_peek_ex(session_.get(), &byte, 1, &size);
  if (result > 0) return Peer::there;
  switch (SSL_get_error(session_.get(), result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      return Peer::there;
    case SSL_ERROR_ZERO_RETURN:
      return Peer::ended;
    default:
      broken_ = true;
      return Peer::gone;
  }
}

awaitable<Opening> look_at_opening(Socket& socket) {
  while (true) {
    const auto [error] = co_await socket.async_wait(asio::socket_base::wait_read, as_result);
    if (error || !socket.is_open()) co_return Opening::none;
    char byte = 0;
    const auto size = ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (size > 0) co_return byte == handshake_record ? Opening::tls : Opening::plain;
    if (size == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) co_return Opening::none;
  }
}

}  // namespace agentvm::proxy
