#include "proxy/egress/secrets.hpp"

#include <algorithm>

namespace agentvm::egress {

bool SecretSet::is_bait(const HostPort& target) const {
  return std::any_of(decoys.begin(), decoys.end(), [&](const Decoy& decoy) { return decoy.is_for(target); });
}

bool SecretSet::ends_tls(const HostPort& target) const {
  return is_bait(target) || !secrets_for(uses, target).empty();
}

}  // namespace agentvm::egress
