#pragma once
// The token of a guest's answer: compared with the next one, never trusted.

#include <string>

#include "vmm/base/json.hpp"

namespace agentvm::guest {

/// `token` of the answer: 1 to 64 hexadecimal digits. Throws `operation_failed` for anything else; `what` is what the
/// answer is about.
std::string checked_token(const Json& body, const char* what);

}  // namespace agentvm::guest
