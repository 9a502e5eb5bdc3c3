#include "guest/control/token.hpp"

#include "vmm/base/error.hpp"

namespace agentvm::guest {

std::string checked_token(const Json& body, const char* what) {
  constexpr std::size_t limit = 64;
  auto token = require<std::string>(body, "token");
  if (token.empty() || token.size() > limit || token.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw Error(ErrorCode::operation_failed,
                std::string("the guest's agent tells of ") + what + " with a malformed token");
  return token;
}

}  // namespace agentvm::guest
