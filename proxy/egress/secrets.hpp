#pragma once
// What the proxy is given for the secrets and decoys of one sandbox.

#include <memory>
#include <string>
#include <vector>

#include "proxy/egress/decoys.hpp"
#include "proxy/egress/placeholders.hpp"
#include "proxy/egress/secret_values.hpp"
#include "proxy/egress/upstream_tls.hpp"
#include "proxy/tls/authority.hpp"

namespace agentvm::egress {

/// Immutable; shared by the connections that began with it.
struct SecretSet {
  std::vector<SecretUse> uses;
  std::shared_ptr<SecretValues> values;         ///< knows the name of each
  std::shared_ptr<proxy::Authority> authority;  ///< for the names of their hosts, trusted by the guest; may be nothing
  std::string no_authority;                     ///< why there is none
  std::shared_ptr<const UpstreamTls> upstream;
  std::vector<Decoy> decoys;
  std::shared_ptr<const DecoySearch> search;  ///< for their values; nothing: there are none

  /// Whether a decoy would be used there.
  bool is_bait(const HostPort& target) const;
  /// Whether TLS to it is ended here.
  bool ends_tls(const HostPort& target) const;
};

}  // namespace agentvm::egress
