#pragma once
// Names of snapshots of uncommitted work: refs/agentvm/<sandbox>/wip/<time>[-<work tree>][.timer]. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::sync {

enum class WipKind {
  kept,   ///< taken before something could lose it (stop, destroy, after a crash): stays until it is dropped
  timer,  ///< taken by the clock: the oldest make room for new ones
};
std::string_view to_string(WipKind kind);

struct WipName {
  std::string stamp;  ///< "20260131T080910Z", see `ref_stamp`
  std::string label;  ///< of a work tree besides /workspace (`branch_label`); empty: /workspace itself
  WipKind kind = WipKind::kept;
  /// What a person types: "20260131T080910Z-feature.timer".
  std::string str() const;
  bool operator==(const WipName&) const = default;
};

/// Nothing for any other text.
std::optional<WipName> parse_wip_name(std::string_view text);
/// Seconds since 1970; nothing when `stamp` is no time.
std::optional<std::int64_t> stamp_time(std::string_view stamp);

/// Those of `timed` (any order) that make room: all but the newest `limit_times` moments, without `in_use`.
std::vector<std::string> wip_to_prune(const std::vector<std::string>& timed, const std::vector<std::string>& in_use,
                                      std::size_t limit_times);

}  // namespace agentvm::sync
