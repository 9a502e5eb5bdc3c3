#include "cli/manager/ops/state_files.hpp"

#include "vmm/base/digest.hpp"
#include "vmm/disk/overlay.hpp"

namespace agentvm::manager {

Json measure_state(const MachineState& state) {
  std::error_code absent;
  const auto length = std::filesystem::file_size(state.memory, absent);
  return {{"devices_sha256", sha256_file(state.devices)},
          {"memory_bytes", absent ? std::uintmax_t(0) : length},
          {"memory_used_bytes", allocated_bytes(state.memory)}};
}

bool state_is_as_measured(const Json& then, const Json& now) {
  const auto same = [&](const char* field) { return value_or<Json>(then, field, nullptr) == now.at(field); };
  constexpr const char* used = "memory_used_bytes";
  return same("devices_sha256") && same("memory_bytes") &&
         value_or<std::uint64_t>(then, used, 0) / 2 <= require<std::uint64_t>(now, used);
}

}  // namespace agentvm::manager
