#pragma once
// Stores a pack that arrives in pieces, under the caps on what it holds.

#include <string>
#include <string_view>

#include "sync/git/handles.hpp"
#include "sync/git/pack_walk.hpp"
#include "sync/limits.hpp"

namespace agentvm::git {

struct ReceivedPack {
  std::string name;  ///< 40 hex digits; empty when the pack held no object
  std::uint64_t objects = 0;
};

class PackSink {
 public:
  /// Thin packs are completed from `odb`.
  PackSink(const std::string& pack_dir, git_odb* odb, const sync::SyncLimits& limits);
  /// Throws `operation_failed` at the first byte that breaks a cap or is no pack's.
  void feed(std::string_view data);
  /// Writes the index. Throws as `feed` where the pack is not complete.
  ReceivedPack finish();

 private:
  git_indexer_progress stats_{};
  IndexerHandle indexer_;
  PackWalk walk_;
  bool any_ = false;
};

}  // namespace agentvm::git
