#include "guest/control/refs.hpp"

#include "guest/control/token.hpp"

namespace agentvm::guest {

GuestRefs parse_guest_refs(const Json& body) {
  return {checked_token(body, "references"), value_or<bool>(body, "whole", false)};
}

}  // namespace agentvm::guest
