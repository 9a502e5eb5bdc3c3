#pragma once
// The fetching side of git's protocol v0 over two descriptors: advertisement, negotiation, pack into a store.
// Everything read is hostile.

#include <functional>
#include <string>
#include <vector>

#include "sync/git/advertisement.hpp"
#include "sync/git/handles.hpp"
#include "sync/git/pack_sink.hpp"
#include "sync/git/pkt_line.hpp"
#include "sync/limits.hpp"

namespace agentvm::git {

struct Haves {
  std::vector<git_oid> tips;  ///< commits that the host has, most useful first
  std::size_t preferred = 0;  ///< so many of them are offered before the walk through history begins
};

/// Asks for `wants` (none of them empty) and offers what the host has. Returns when the pack is next on the stream.
void negotiate(PktStream& stream, const Advertisement& advertisement, const std::vector<git_oid>& wants,
               const Haves& haves, git_odb* odb);

/// Indexes the pack into `pack_dir`; thin packs are completed from `odb`. Caps: objects, bytes (by the stream),
/// progress text.
ReceivedPack receive_pack(PktStream& stream, const Advertisement& advertisement, const std::string& pack_dir,
                          git_odb* odb, const sync::SyncLimits& limits);

}  // namespace agentvm::git
