#pragma once
// What the gate finds in a range of commits, asked from git; and what the user was shown of it.

#include "sync/gate.hpp"
#include "sync/host_git.hpp"
#include "sync/outcome.hpp"

namespace agentvm::sync {

struct GateFindings {
  std::vector<GatedPath> listed;     ///< in the order of their paths, at most `gate_listed_limit`, with excerpts
  std::vector<std::string> entries;  ///< digests of mode, object and path of all: what an acceptance is about
};
inline constexpr std::size_t gate_listed_limit = 100;

/// Compares the trees of `base` (empty: an empty one) and `tip`; runs no filter, textconv or external diff. The names
/// and excerpts are guest text.
GateFindings search_range(const HostGit& git, const std::string& base, const std::string& tip, const GatePolicy& policy,
                          Deadline deadline);

/// An acceptance covers what was shown, not what the guest committed since.
class ShownGate {
 public:
  /// `folder`: the sync's scratch folder.
  explicit ShownGate(const fs::path& folder) : file_(folder / "gate-shown.json") {}
  void remember(const std::string& branch, const GateFindings& findings) const;
  void forget() const;
  /// The entries that were not shown when the user was last asked about this branch; none when they never were asked.
  std::size_t unseen(const std::string& branch, const GateFindings& findings) const;

 private:
  fs::path file_;
};

}  // namespace agentvm::sync
