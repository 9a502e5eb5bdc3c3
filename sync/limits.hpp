#pragma once
// Caps on what one sync may cost the host (`sync.limits.*`).

#include <cstdint>

#include "vmm/base/json.hpp"

namespace agentvm::sync {

struct SyncLimits {
  std::uint64_t bytes = 8ULL << 30;            ///< pack bytes received, and the largest file the child may write
  std::uint64_t expanded_bytes = 64ULL << 30;  ///< all new objects, unpacked
  std::uint64_t object_bytes = 16ULL << 30;    ///< one object, unpacked
  std::uint64_t objects = 10'000'000;          ///< objects in the pack
  std::uint64_t refs = 50'000;                 ///< references the guest may advertise
  std::uint64_t memory = 1ULL << 30;           ///< private memory of the child, bytes
  std::uint64_t seconds = 600;                 ///< wall time of the whole download and its checks
};

Json to_json(const SyncLimits& limits);
/// Missing keys keep their default.
SyncLimits limits_from_json(const Json& json);

}  // namespace agentvm::sync
