#include "sync/guest_memory.hpp"

#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t file_limit_bytes = 64u << 20;
constexpr std::size_t state_limit_bytes = 256;

bool all_mirrored(const std::map<std::string, std::string>& tips, const std::string& prefix,
                  const std::map<std::string, std::string>& mirrored) {
  for (const auto& [name, tip] : tips) {
    const auto found = mirrored.find(prefix + name);
    if (found == mirrored.end() || found->second != tip) return false;
  }
  return true;
}

}  // namespace

std::optional<FetchVerdict> GuestMemory::recall(const std::string& state, const std::string& sandbox,
                                                const std::map<std::string, std::string>& mirrored) const {
  if (state.empty()) return std::nullopt;
  try {
    const auto text = read_file_if_exists(file_, file_limit_bytes);
    if (!text) return std::nullopt;
    const auto memory = parse_json(*text, file_.string());
    if (require<std::string>(memory, "state") != state) return std::nullopt;
    auto verdict = verdict_from_json(require<Json>(memory, "verdict"));
    const auto prefix = mirror_ref(sandbox, "");
    if (verdict.branches.empty() || !all_mirrored(verdict.branches, prefix, mirrored) ||
        !all_mirrored(verdict.tags, prefix + std::string(mirrored_tag_prefix), mirrored))
      return std::nullopt;
    return verdict;
  } catch (const Error& error) {
    log::info("sync", "the memory of the last sync is of no use: {}", error.what());
    return std::nullopt;
  }
}

void GuestMemory::keep(const std::string& state, FetchVerdict verdict) const {
  if (state.empty() || state.size() > state_limit_bytes) {
    ::unlink(file_.c_str());
    return;
  }
  verdict.pack.clear();
  verdict.objects = verdict.bytes = 0;
  write_file_atomic(file_, dump_json({{"state", state}, {"verdict", to_json(verdict)}}));
}

}  // namespace agentvm::sync
