#pragma once
// What the guest's references were at the last sync, so that nothing is fetched while they are the same.

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "sync/verdict.hpp"

namespace agentvm::sync {

namespace fs = std::filesystem;

/// A file in the sync's scratch folder; the caller holds the lock on that.
class GuestMemory {
 public:
  explicit GuestMemory(const fs::path& scratch) : file_(scratch / "guest-state.json") {}
  /// The verdict of the last sync, where `state` is what it was then, and each branch and tag of it still is below
  /// refs/agentvm/<sandbox>/ (`mirrored`: full name -> object id): what was proven then is still there.
  std::optional<FetchVerdict> recall(const std::string& state, const std::string& sandbox,
                                     const std::map<std::string, std::string>& mirrored) const;
  /// Called once the verdict's references are written. An empty `state` forgets.
  void keep(const std::string& state, FetchVerdict verdict) const;

 private:
  fs::path file_;
};

}  // namespace agentvm::sync
