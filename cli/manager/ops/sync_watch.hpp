#pragma once
// Live modes: follows what guests say about their references, and lets a sandbox sync by itself.
//
// Job: one thread per running sandbox waits on the agent's port for a token that differs, feeds `sync::AutoSync`, and
// calls back when a sync is due; keeps what `status` shows of it. Not its job: syncing (sync_op.hpp), starting and
// stopping watches (Core does, with the connection to the guest's agent). What a guest says is a hint: at most ten
// looks a second are taken from it, and nothing but a token and a number for people. Threads: thread-safe; callbacks
// run on the sandbox's own thread.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "guest/control/control.hpp"
#include "sync/auto_sync.hpp"
#include "sync/host_mark.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/names.hpp"

namespace agentvm::manager {

class SyncWatch {
 public:
  struct Settings {
    sync::SyncMode mode = sync::SyncMode::manual;
    milliseconds idle{60'000};
    std::string settled;                   ///< the token before the last sync that landed
    std::shared_ptr<sync::HostMark> held;  ///< where that one met work of the user's: their repository
  };
  struct Hooks {
    /// One sync, as `agentvm sync` does it, which then calls `landed`. False: the sandbox is busy, try again. Throws
    /// when it failed; must end soon after `stop`.
    std::function<bool(const SandboxName&, std::stop_token stop)> sync;
    /// How many commits the guest has that the host has not; nothing when it does not tell.
    std::function<std::optional<std::uint64_t>(const SandboxName&, guest::Control&)> count;
    /// That number, whenever it is another one: to show it inside. May throw; may be empty.
    std::function<void(const SandboxName&, guest::Control&, std::uint64_t)> tell;
  };
  /// Gets `{sequence, outcome}` of one sync that landed, or `{ended: true}` when the watch ends; once. Must not block.
  using Follower = std::function<void(const Json& news)>;

  explicit SyncWatch(Hooks hooks);
  ~SyncWatch();

  /// A machine runs: follows it until `unwatch`, in place of what was followed under this name. Without `control`
  /// nothing is.
  void watch(const SandboxName& name, Settings settings, std::shared_ptr<guest::Control> control);
  void unwatch(const SandboxName& name);
  /// A sync landed that began when the guest's token was `token` (empty: unknown). `held`: work of the user's kept the
  /// branch where it was; the user's repository from before that sync. Once it changes, a watch that syncs by itself
  /// does so again.
  void landed(const SandboxName& name, const std::string& token, const Json& outcome,
              std::shared_ptr<sync::HostMark> held = nullptr);
  /// {state, pending_commits, last_error, next_time}: `state` is "off" (nothing is watched), "watching", "pending",
  /// "syncing" or "backing-off"; the others may be null.
  Json status(const SandboxName& name) const;

  /// While it lives, the sandbox does not sync by itself; one that runs is ended first. For stop and destroy.
  class Quiet {
   public:
    Quiet(SyncWatch& watch, SandboxName name);
    ~Quiet();
    Quiet(const Quiet&) = delete;
    Quiet& operator=(const Quiet&) = delete;

   private:
    SyncWatch& watch_;
    const SandboxName name_;
  };

  /// Calls `follower` with the first sync after `sequence`, maybe within this call, unless the returned handle goes
  /// before; meanwhile a manual sandbox syncs with each commit. Throws `wrong_state` when the sandbox is not watched.
  std::shared_ptr<void> follow(const SandboxName& name, std::uint64_t sequence, Follower follower);
  /// How many syncs landed since the watch began.
  std::uint64_t sequence(const SandboxName& name) const;

  /// Ends all watches and the syncs that run.
  void stop();

 private:
  class Watched;
  std::shared_ptr<Watched> find(const SandboxName& name) const;

  const Hooks hooks_;
  mutable std::mutex mutex_;  // guards the members below
  std::map<std::string, std::shared_ptr<Watched>> watched_;
  std::map<std::string, int> quiet_;
  bool stopped_ = false;
};

}  // namespace agentvm::manager
