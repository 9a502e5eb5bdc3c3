#pragma once
// Bytes that are not text, inside JSON (RFC 4648, with padding).

#include <string>
#include <string_view>

namespace agentvm {

std::string base64_encode(std::string_view bytes);
/// Throws `operation_failed` on anything but canonical base64 (alphabet, padding, zero filler bits).
std::string base64_decode(std::string_view text);

}  // namespace agentvm
