#pragma once
// What a journal says in short, and what its sandbox would need. Pure.

#include <string>
#include <vector>

#include "proxy/egress/caps.hpp"
#include "proxy/egress/journal.hpp"

namespace agentvm::egress {

/// Connections that ended in the same way.
struct SummaryRow {
  Decision last;            ///< the newest of them; its bytes, requests and tokens are those of all
  std::uint64_t count = 0;  ///< connections
};
/// Those that ended or opened: what waited has come to one of that. One row per host, port, verdict, cause and rule;
/// the newest last.
std::vector<SummaryRow> summarise(const std::vector<JournalEntry>& entries);

/// What the journal tells of counts for caps, too.
void add_history(CapLedger& caps, const std::vector<JournalEntry>& entries);

struct Suggestion {
  std::string rule;  ///< as in egress.allow
  std::uint64_t allowed = 0, denied = 0;
};
/// The smallest list for egress.allow with which everything of the journal passes: exact names that were asked for and
/// that `given` (presets, package sources, grants) does not allow. What a rule denies, what is no name and what asked
/// for another name inside stays out. By name.
std::vector<Suggestion> suggest(const std::vector<JournalEntry>& entries, const EgressPolicy& given);

}  // namespace agentvm::egress
