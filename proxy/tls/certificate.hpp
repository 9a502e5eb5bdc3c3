#pragma once
// Certificates made and read with OpenSSL. Private. Everything throws `operation_failed` with OpenSSL's reason.

#include <cstdint>
#include <string>
#include <vector>

#include "proxy/tls/leaf.hpp"

namespace agentvm::proxy {

inline constexpr std::int64_t day_seconds = 24 * 60 * 60;

/// EC P-256.
Key make_key();
/// An authority for `domains` and names below them that signs itself, from `now` on for `days`.
Certificate make_authority(EVP_PKEY& key, const std::string& title, const std::vector<std::string>& domains,
                           std::int64_t now, std::int64_t days);
/// For exactly `name`.
Certificate make_leaf(EVP_PKEY& key, const std::string& name, const Leaf& authority, std::int64_t now,
                      std::int64_t days);

std::string to_pem(X509& certificate);
/// The key, then the certificate.
std::string to_pem(const Leaf& pair);
/// The inverse; the pair fits.
Leaf from_pem(const std::string& text);

/// Seconds since 1970 after which it is of no use.
std::int64_t ends_at(X509& certificate);
/// Whether its name constraints permit `domains` alone, critically.
bool is_authority_for(X509& certificate, const std::vector<std::string>& domains);

}  // namespace agentvm::proxy
