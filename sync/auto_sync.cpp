#include "sync/auto_sync.hpp"

#include <algorithm>

#include "vmm/base/error.hpp"

namespace agentvm::sync {

SyncMode sync_mode_from(std::string_view text) {
  for (const auto mode : {SyncMode::manual, SyncMode::auto_commit, SyncMode::auto_idle})
    if (to_string(mode) == text) return mode;
  throw Error(ErrorCode::usage, "'" + std::string(text) + "' is not one of manual, auto-commit, auto-idle");
}

std::string_view to_string(SyncMode mode) {
  switch (mode) {
    case SyncMode::manual:
      return "manual";
    case SyncMode::auto_commit:
      return "auto-commit";
    case SyncMode::auto_idle:
      return "auto-idle";
  }
  return "manual";
}

void AutoSync::seen(const std::string& token, SteadyTime now) {
  if (token == seen_) return;
  seen_ = token;
  changed_ = now;
}

void AutoSync::started(SteadyTime now) {
  begun_ = now;
  starts_.push_back(now);
  if (starts_.size() > burst) starts_.pop_front();
}

void AutoSync::withdrawn() {
  if (!starts_.empty()) starts_.pop_back();
  begun_.reset();
}

void AutoSync::landed(const std::string& token, SteadyTime now, bool held) {
  settled_ = token;
  held_ = held;
  again_.reset();
  ended(now);
  failures_ = 0;
}

void AutoSync::host_changed(SteadyTime now) {
  if (held_) again_ = now;
}

void AutoSync::failed(SteadyTime now) {
  ended(now);
  ++failures_;
}

void AutoSync::ended(SteadyTime now) {
  if (begun_) took_ = now - *begun_;  // else it was the user's own
  begun_.reset();
  ended_ = now;
}

std::optional<SteadyTime> AutoSync::due() const {
  const auto mode = acting_mode();
  if (mode == SyncMode::manual || (!pending() && !again_)) return std::nullopt;
  auto at = SteadyTime::max();
  if (pending()) at = mode == SyncMode::auto_idle ? changed_ + idle_ : changed_;
  if (again_) at = std::min<SteadyTime>(at, *again_ + host_quiet);
  if (ended_) at = std::max(at, *ended_ + std::max<SteadyTime::duration>(least_pause, took_));
  if (starts_.size() == burst) at = std::max(at, starts_.front() + window);
  if (failures_ > 0) {
    auto wait = first_backoff;
    for (unsigned i = 1; i < failures_ && wait < longest_backoff; ++i) wait *= 2;
    at = std::max(at, *ended_ + std::min(wait, longest_backoff));
  }
  return at;
}

}  // namespace agentvm::sync
