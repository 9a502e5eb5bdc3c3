#pragma once
// What upload-pack and receive-pack say first: its references and capabilities.

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "sync/git/pkt_line.hpp"
#include "sync/refs.hpp"

namespace agentvm::git {

struct Advertisement {
  std::vector<sync::AdvertisedRef> refs;  ///< hostile names
  std::set<std::string> capabilities;     ///< whole words: "side-band-64k", "symref=HEAD:refs/heads/main"
  bool has(const std::string& capability) const { return capabilities.contains(capability); }
  /// The branch HEAD points to, without refs/heads/; empty when it is detached or not told.
  std::string head_branch() const;
  /// Where HEAD stands; empty when it is not told.
  std::string head_tip() const;
};

/// Adds one packet to `out`. Throws `operation_failed` for lines that are no reference, error packets, other object
/// formats, and after `limit_refs` references. Peeled tags ("^{}") are passed over.
void add_advertised(Advertisement& out, std::string_view payload, bool first, std::size_t limit_refs);

/// Reads up to the first flush.
Advertisement read_advertisement(PktStream& stream, std::size_t limit_refs);

}  // namespace agentvm::git
