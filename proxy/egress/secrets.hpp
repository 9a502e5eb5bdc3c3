#pragma once
// What the proxy is given for the secrets of one sandbox.

#include <memory>
#include <string>
#include <vector>

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
};

}  // namespace agentvm::egress
