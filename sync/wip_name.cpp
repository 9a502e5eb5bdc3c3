#include "sync/wip_name.hpp"

#include <algorithm>
#include <set>

#include "vmm/base/clock.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t stamp_length = 16;  // 20260131T080910Z
constexpr std::size_t label_limit = 64;   // branch_label gives at most 49
constexpr std::string_view timer_suffix = ".timer";

}  // namespace

std::string_view to_string(WipKind kind) {
  return kind == WipKind::timer ? "timer" : "kept";
}

std::string WipName::str() const {
  return stamp + (label.empty() ? "" : "-" + label) + (kind == WipKind::timer ? std::string(timer_suffix) : "");
}

std::optional<std::int64_t> stamp_time(std::string_view stamp) {
  if (stamp.size() != stamp_length || stamp[8] != 'T' || stamp[15] != 'Z') return std::nullopt;
  for (std::size_t i = 0; i + 1 < stamp_length; ++i)
    if (i != 8 && (stamp[i] < '0' || stamp[i] > '9')) return std::nullopt;
  const std::string s(stamp);
  try {
    return parse_time(s.substr(0, 4) + "-" + s.substr(4, 2) + "-" + s.substr(6, 5) + ":" + s.substr(11, 2) + ":" +
                      s.substr(13));
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<WipName> parse_wip_name(std::string_view text) {
  WipName name;
  if (text.ends_with(timer_suffix)) {
    name.kind = WipKind::timer;
    text.remove_suffix(timer_suffix.size());
  }
  name.stamp = text.substr(0, stamp_length);
  if (!stamp_time(name.stamp)) return std::nullopt;
  text.remove_prefix(stamp_length);
  if (text.empty()) return name;
  name.label = text.substr(1);
  const bool plain = std::all_of(name.label.begin(), name.label.end(),
                                 [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
  if (text.front() != '-' || name.label.empty() || name.label.size() > label_limit || !plain) return std::nullopt;
  return name;
}

std::vector<std::string> wip_to_prune(const std::vector<std::string>& timed, const std::vector<std::string>& in_use,
                                      std::size_t limit_times) {
  std::set<std::string, std::greater<>> times;
  for (const auto& text : timed)
    if (const auto name = parse_wip_name(text)) times.insert(name->stamp);
  if (times.size() <= limit_times) return {};
  const auto oldest_kept = limit_times == 0 ? std::string("~") : *std::next(times.begin(), limit_times - 1);
  std::vector<std::string> doomed;
  for (const auto& text : timed) {
    const auto name = parse_wip_name(text);
    if (name && name->kind == WipKind::timer && name->stamp < oldest_kept &&
        std::find(in_use.begin(), in_use.end(), text) == in_use.end())
      doomed.push_back(text);
  }
  return doomed;
}

}  // namespace agentvm::sync
