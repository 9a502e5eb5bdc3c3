#pragma once
// OpenSSL's contexts for both ends of TLS that is ended here. Private.

#include <memory>
#include <string_view>

#include <openssl/ssl.h>

#include "proxy/egress/upstream_tls.hpp"
#include "vmm/base/free_with.hpp"

namespace agentvm::egress {

using TlsContextHandle = std::unique_ptr<SSL_CTX, FreeWith<SSL_CTX_free>>;

/// HTTP/1.1 alone, as ALPN has it: what is read here is nothing else.
inline constexpr unsigned char http_1_1[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

struct UpstreamTls::Context {
  TlsContextHandle handle;
};

/// Throws `operation_failed` naming `what` unless `good`.
void must_be_set(bool good, std::string_view what);
/// What holds for both ends: TLS 1.2 and 1.3, no renegotiation, no compression, no memory of sessions.
void restrict_tls(SSL_CTX& context);

}  // namespace agentvm::egress
