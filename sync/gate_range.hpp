#pragma once
// What the gate finds in a range of commits, asked from git; and what the user was shown of it.

#include <set>

#include "sync/gate.hpp"
#include "sync/host_git.hpp"
#include "sync/outcome.hpp"

namespace agentvm::sync {

/// Digests of mode, object and path: what an acceptance is about.
using GateEntries = std::set<std::string>;

struct GateFindings {
  std::vector<GatedPath> listed;  ///< in the order of their paths, at most `gate_listed_limit`, with excerpts
  GateEntries listed_entries;     ///< of those
  GateEntries entries;            ///< of all
};
inline constexpr std::size_t gate_listed_limit = 100;

/// Compares the trees of `base` (empty: an empty one) and `tip`; runs no filter, textconv or external diff. The names
/// and excerpts are guest text. Where there are too many to list, those that are not among `seen` go first.
GateFindings search_range(const HostGit& git, const std::string& base, const std::string& tip, const GatePolicy& policy,
                          const GateEntries& seen, Deadline deadline);

/// Who asks for the files of a range, and who reads the answer.
struct GateQuestion {
  bool accept = false;  ///< the user takes what was listed to them
  bool listed = true;   ///< the answer goes to a user, who sees the list; a sync that runs by itself shows it to nobody
  bool dry_run = false;  ///< an acceptance is not used up
};

/// What a user was shown of one subject (a branch, a snapshot). An acceptance covers that: not what the guest committed
/// since, nor another branch that it switched to, nor what did not fit into the list, nor what a sync found by itself.
class ShownGate {
 public:
  /// `folder`: the sync's scratch folder. Reads what is remembered there; another subject's counts as nothing.
  ShownGate(const fs::path& folder, const std::string& subject);
  const GateEntries& seen() const { return seen_; }
  /// Nothing when `findings` (of a search that knew `seen`) pass; else why they wait. Remembers what is listed now.
  std::optional<std::string> refuse(const GateFindings& findings, const GateQuestion& question);

 private:
  fs::path file_;
  std::string subject_;  // its digest
  GateEntries seen_;
};

}  // namespace agentvm::sync
