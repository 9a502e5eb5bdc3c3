#pragma once
// When a sandbox's commits are fetched by themselves. Pure: time, what the guest tells and that the user's repository
// changed come in, a point in time comes out.
//
// What the guest tells is a hint: a token that differs from the last one says "look". So a hostile guest can make us
// look, no more; and it looks at most half of the time, `burst` times a minute.

#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/clock.hpp"

namespace agentvm::sync {

enum class SyncMode {
  manual,       ///< on `agentvm sync` only
  auto_commit,  ///< when the guest's references change
  auto_idle,    ///< when they changed and have been quiet for a while
};
/// Throws `usage` for another text.
SyncMode sync_mode_from(std::string_view text);
std::string_view to_string(SyncMode mode);

/// Not thread-safe.
class AutoSync {
 public:
  static constexpr milliseconds least_pause{1'000}, window{60'000};
  static constexpr std::size_t burst = 20;  ///< syncs in one `window`
  static constexpr milliseconds first_backoff{5'000}, longest_backoff{300'000};
  static constexpr milliseconds host_quiet{1'000};  ///< a user's git commands come in rows

  /// `settled`: the token whose commits the host has; empty when that is not known. `held`: as the sync before said.
  AutoSync(SyncMode mode, milliseconds idle, std::string settled, bool held = false)
      : mode_(mode), idle_(idle), settled_(std::move(settled)), held_(held) {}

  /// What the guest's watch says.
  void seen(const std::string& token, SteadyTime now);
  /// A sync of ours begins.
  void started(SteadyTime now);
  /// It did not come to it: something else is at work on the sandbox.
  void withdrawn();
  /// A sync, ours or the user's, that began when the guest's token was `token`, landed: what the branch rule or the
  /// gate said of it is not asked again before something changes. `held`: the user's own work kept the branch where it
  /// was, so that a change on the user's side counts as well.
  void landed(const std::string& token, SteadyTime now, bool held = false);
  /// The user's repository changed; of interest while `held`.
  void host_changed(SteadyTime now);
  /// A sync of ours failed: the next waits, longer each time.
  void failed(SteadyTime now);
  /// While somebody follows, a manual sandbox syncs as `auto_commit`.
  void followed(bool on) { followed_ = on; }

  /// The guest has something that no sync has looked at.
  bool pending() const { return !seen_.empty() && seen_ != settled_; }
  /// The user's side is worth looking at.
  bool held() const { return held_ && acting_mode() != SyncMode::manual; }
  /// The next sync is due to the user's side alone.
  bool again() const { return again_ && !pending(); }
  /// When the next sync should begin; nothing: not before something changes.
  std::optional<SteadyTime> due() const;
  unsigned failures() const { return failures_; }
  const std::string& token() const { return seen_; }
  SyncMode mode() const { return mode_; }

 private:
  SyncMode acting_mode() const { return mode_ == SyncMode::manual && followed_ ? SyncMode::auto_commit : mode_; }
  void ended(SteadyTime now);
  const SyncMode mode_;
  const milliseconds idle_;
  std::string settled_, seen_;
  bool held_, followed_ = false;
  SteadyTime changed_{};
  std::optional<SteadyTime> begun_, ended_, again_;
  SteadyTime::duration took_{};    // the last of ours
  std::deque<SteadyTime> starts_;  // the last `burst`
  unsigned failures_ = 0;
};

}  // namespace agentvm::sync
