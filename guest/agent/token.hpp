#pragma once
// Tokens of what the guest's agent looks at: a host asks to be told once its own is no longer true.

#include <cstdint>
#include <string>

#include <fmt/format.h>

#include "vmm/base/json.hpp"

namespace agentvm::guest::agent {

/// 16 hexadecimal digits that stand for `value`. FNV-1a: a token is compared, never trusted.
inline std::string token_of(const Json& value) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const unsigned char c : dump_json(value)) hash = (hash ^ c) * 0x100000001b3u;
  return fmt::format("{:016x}", hash);
}

}  // namespace agentvm::guest::agent
