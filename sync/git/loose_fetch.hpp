#pragma once
// A few new objects, fetched one by one from the files that the guest's git keeps them in, and stored as a pack.
// Everything read is hostile. See sync/loose_relay.hpp for the packets.

#include <set>
#include <string>

#include "sync/git/pack_sink.hpp"
#include "sync/git/pkt_line.hpp"

namespace agentvm::git {

/// Fetches `wanted` and all that they lead to and `odb` lacks, into `pack_dir`. Throws `operation_failed` where one of
/// them is not to be had, is not what its id says, or they are more than a few: git is to be asked then.
ReceivedPack fetch_loose(PktStream& stream, const std::set<std::string>& wanted, const std::string& pack_dir,
                         git_odb* odb, const sync::SyncLimits& limits);

}  // namespace agentvm::git
