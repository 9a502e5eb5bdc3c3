#include "guest/control/refs.hpp"

namespace agentvm::guest {

GuestRefs parse_guest_refs(const Json& body) {
  constexpr std::size_t token_limit_bytes = 64;
  GuestRefs refs{require<std::string>(body, "token"), value_or<bool>(body, "whole", false)};
  if (refs.token.empty() || refs.token.size() > token_limit_bytes ||
      refs.token.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw Error(ErrorCode::operation_failed, "the guest's agent tells of references with a malformed token");
  return refs;
}

}  // namespace agentvm::guest
