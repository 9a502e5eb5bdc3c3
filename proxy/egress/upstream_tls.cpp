#include "proxy/egress/upstream_tls.hpp"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "proxy/egress/upstream_context.hpp"
#include "proxy/tls/handles.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::egress {

void must_be_set(bool good, std::string_view what) {
  if (good) return;
  ERR_clear_error();
  throw Error(ErrorCode::operation_failed, fmt::format("OpenSSL refuses {}", what));
}

void restrict_tls(SSL_CTX& context) {
  must_be_set(SSL_CTX_set_min_proto_version(&context, TLS1_2_VERSION) == 1, "TLS 1.2 as the least");
  must_be_set(SSL_CTX_set_cipher_list(&context, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1, "the ciphers");
  SSL_CTX_set_options(&context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(&context, SSL_SESS_CACHE_OFF);
  must_be_set(SSL_CTX_set_num_tickets(&context, 0) == 1, "no tickets");
  SSL_CTX_set_mode(&context,
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
}

UpstreamTls::UpstreamTls(const std::vector<std::string>& more) : context_(std::make_unique<Context>()) {
  context_->handle.reset(SSL_CTX_new(TLS_client_method()));
  auto* const context = context_->handle.get();
  must_be_set(context != nullptr, "a TLS context");
  restrict_tls(*context);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  must_be_set(SSL_CTX_set_default_verify_paths(context) == 1, "this host's trust store");
  for (const auto& pem : more) {
    const proxy::Memory memory(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    const proxy::Certificate certificate(memory ? PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr) : nullptr);
    if (certificate) X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate.get());
  }
  ERR_clear_error();
  must_be_set(SSL_CTX_set_alpn_protos(context, http_1_1, sizeof http_1_1) == 0, "HTTP/1.1");
}

UpstreamTls::~UpstreamTls() = default;

}  // namespace agentvm::egress
