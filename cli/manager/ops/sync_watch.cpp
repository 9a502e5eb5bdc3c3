#include "cli/manager/ops/sync_watch.hpp"

#include <condition_variable>
#include <deque>

#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds look_patience{60'000};
constexpr milliseconds answer_margin{10'000};
constexpr milliseconds least_turn{100};  // however fast a guest answers
constexpr milliseconds boot_pause{500}, retry_pause{5'000}, busy_pause{500};
constexpr milliseconds count_pause{2'000};
constexpr milliseconds host_turn{2'000};  // a few stat(2)s
constexpr milliseconds soon{1'000};
constexpr std::size_t history_limit = 16;

SteadyTime now() {
  return std::chrono::steady_clock::now();
}

milliseconds until(SteadyTime at) {
  return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(at - now()));
}

/// What a person would not have to be told again.
bool says_the_same(const Json& outcome, const Json& before) {
  for (const char* key : {"result", "reason", "branch", "old_tip", "new_tip", "conflicts"})
    if (outcome.value(key, Json()) != before.value(key, Json())) return false;
  return true;
}

}  // namespace

/// One running sandbox. Its thread alone talks to the guest and syncs; the others change what it decides on and wake
/// it.
class SyncWatch::Watched : public std::enable_shared_from_this<Watched> {
 public:
  Watched(const Hooks& hooks, SandboxName name, Settings settings, std::shared_ptr<guest::Control> control)
      : hooks_(hooks),
        name_(std::move(name)),
        control_(std::move(control)),
        policy_(settings.mode, settings.idle, std::move(settings.settled), settings.held != nullptr),
        held_(std::move(settings.held)) {}

  void begin() {
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }

  /// Must not be called on its own thread.
  void end() {
    thread_.request_stop();
    interrupt();
    if (thread_.joinable()) thread_.join();
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    for (const auto& follower : take_followers()) follower({{"ended", true}});
  }

  void set_quiet(bool on) {
    {
      const std::lock_guard lock(mutex_);
      quiet_ = on;
    }
    on ? interrupt() : wake();
  }

  void landed(const std::string& token, const Json& outcome, std::shared_ptr<sync::HostMark> held) {
    Json news;
    {
      const std::lock_guard lock(mutex_);
      policy_.landed(token.empty() ? policy_.token() : token, now(), held != nullptr);
      error_.clear();
      held_ = std::move(held);
      if (std::exchange(repeats_, false) && held_ && says_the_same(outcome, last_outcome_)) return wake_locked();
      last_outcome_ = outcome;
      news = {{"sequence", ++sequence_}, {"outcome", outcome}};
      history_.push_back(news);
      if (history_.size() > history_limit) history_.pop_front();
    }
    for (const auto& follower : take_followers()) follower(news);
    wake();
  }

  std::shared_ptr<void> follow(std::uint64_t sequence, const Follower& follower) {
    Json news;
    std::uint64_t number = 0;
    {
      const std::lock_guard lock(mutex_);
      sequence = std::min(sequence, sequence_);  // one of a manager before us
      if (ended_) {
        news = {{"ended", true}};
      } else if (sequence < sequence_) {
        news = history_[history_.size() - std::min<std::uint64_t>(history_.size(), sequence_ - sequence)];
      } else {
        followers_[number = ++last_follower_] = follower;
        policy_.followed(true);
        wake_locked();
      }
    }
    if (number == 0) {
      follower(news);
      return nullptr;
    }
    return {nullptr, [self = shared_from_this(), number](void*) { self->leave(number); }};
  }

  std::uint64_t sequence() const {
    const std::lock_guard lock(mutex_);
    return sequence_;
  }

  Json status() const {
    const std::lock_guard lock(mutex_);
    const auto due = policy_.due();
    Json result{{"state", lost_                    ? "off"
                          : syncing_               ? "syncing"
                          : policy_.failures() > 0 ? "backing-off"
                          : policy_.pending()      ? "pending"
                                                   : "watching"},
                {"pending_commits", nullptr},
                {"last_error", nullptr},
                {"next_time", nullptr}};
    if (const auto number = pending_commits()) result["pending_commits"] = *number;
    if (!error_.empty()) result["last_error"] = error_;
    if (due && !syncing_)
      result["next_time"] = format_time(system_clock().unix_seconds() +
                                        std::chrono::duration_cast<std::chrono::seconds>(until(*due)).count());
    return result;
  }

 private:
  /// With the mutex held.
  std::optional<std::uint64_t> pending_commits() const {
    return !policy_.pending() && !policy_.token().empty() ? std::optional<std::uint64_t>(0) : count_;
  }

  void leave(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    followers_.erase(number);
    policy_.followed(!followers_.empty());
  }

  std::vector<Follower> take_followers() {
    std::vector<Follower> taken;
    const std::lock_guard lock(mutex_);
    for (auto& [number, follower] : followers_) taken.push_back(std::move(follower));
    followers_.clear();
    policy_.followed(false);
    return taken;
  }

  /// Ends the wait on the guest, so that what changed is looked at.
  void wake() {
    const std::lock_guard lock(mutex_);
    wake_locked();
  }
  void wake_locked() {
    woken_ = true;
    looking_.request_stop();
    changed_.notify_all();
  }
  /// And the sync that runs.
  void interrupt() {
    const std::lock_guard lock(mutex_);
    syncing_stop_.request_stop();
    wake_locked();
  }

  void run(const std::stop_token& stop) {
    const std::stop_callback on_stop(stop, [this] { interrupt(); });
    std::string token;
    while (!stop.stop_requested()) {
      const auto begun = now();
      try {
        if (const auto told = look(token)) {
          const std::lock_guard lock(mutex_);
          policy_.seen(token = *told, now());
        }
        look_at_host();
        if (due()) sync(stop);
        if (wants_count()) count();
        tell();
      } catch (const Error& error) {
        if (stop.stop_requested()) return;
        if (!control_->alive()) return set_lost(error.what());
        // "wrong_state" while the guest still boots; an image from before this operation never tells.
        if (error.code() == ErrorCode::usage) set_problem(error.what());
        log::debug("sync", "{}: its references: {}", name_.str(), error.what());
        pause(error.code() == ErrorCode::wrong_state ? boot_pause : retry_pause, stop);
      }
      if (const auto turn = now() - begun; turn < least_turn)
        pause(std::chrono::ceil<milliseconds>(least_turn - turn), stop);
    }
  }

  void set_lost(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    lost_ = true;
    error_ = reason;
  }

  void set_problem(const std::string& problem) {
    const std::lock_guard lock(mutex_);
    error_ = problem;
  }

  /// The guest's token, once it differs; nothing when something else is to be done first.
  std::optional<std::string> look(const std::string& known) {
    milliseconds patience = look_patience;
    std::stop_token called_away;
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(woken_, false)) patience = milliseconds(0);
      if (const auto at = policy_.due(); at && !quiet_) patience = std::min(patience, until(*at));
      if (policy_.held() && !quiet_) patience = std::min(patience, host_turn);
      if (policy_.pending() && counted_ != policy_.token()) patience = std::min(patience, until(next_count_));
      looking_ = {};
      called_away = looking_.get_token();
    }
    try {
      return control_->refs(known, patience, called_away, Deadline::after(patience + answer_margin)).token;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::cancelled) return std::nullopt;
      throw;
    }
  }

  void look_at_host() {
    std::shared_ptr<sync::HostMark> mark;
    {
      const std::lock_guard lock(mutex_);
      if (policy_.held() && !quiet_) mark = held_;
    }
    if (!mark || !mark->changed()) return;  // no other thread uses it
    const std::lock_guard lock(mutex_);
    if (held_ == mark) policy_.host_changed(now());
  }

  bool due() const {
    const std::lock_guard lock(mutex_);
    const auto at = policy_.due();
    return at && !quiet_ && *at <= now();
  }

  void sync(const std::stop_token& stop) {
    std::stop_token interrupted;
    {
      const std::lock_guard lock(mutex_);
      syncing_ = true;
      syncing_stop_ = {};
      if (stop.stop_requested() || quiet_) syncing_stop_.request_stop();
      interrupted = syncing_stop_.get_token();
      repeats_ = policy_.again();
      policy_.started(now());
    }
    bool busy = false;
    std::string problem;
    try {
      busy = !hooks_.sync(name_, interrupted);
    } catch (const Error& error) {
      problem = error.what();
    } catch (const std::exception& error) {
      problem = error.what();
    }
    {
      const std::lock_guard lock(mutex_);
      syncing_ = repeats_ = false;
      if (interrupted.stop_requested() && !problem.empty()) {
        problem.clear();  // it was ended by us, so that something else can go first
        busy = true;
      }
      if (busy) policy_.withdrawn();
      if (!problem.empty()) {
        policy_.failed(now());
        error_ = problem;
      }
    }
    if (!problem.empty()) log::warn("sync", "{}: by itself: {}", name_.str(), problem);
    if (busy) pause(busy_pause, stop);
  }

  bool wants_count() const {
    const std::lock_guard lock(mutex_);
    if (!policy_.pending() || counted_ == policy_.token() || now() < next_count_) return false;
    const auto at = policy_.due();
    return !at || *at > now() + soon;  // else the sync comes first, and then there is nothing to count
  }

  void count() {
    std::string token;
    {
      const std::lock_guard lock(mutex_);
      token = policy_.token();
    }
    const auto number = hooks_.count(name_, *control_);
    const std::lock_guard lock(mutex_);
    next_count_ = now() + count_pause;
    counted_ = token;
    count_ = number;
  }

  void tell() {
    std::optional<std::uint64_t> number;
    {
      const std::lock_guard lock(mutex_);
      if (!quiet_) number = pending_commits();
    }
    if (!hooks_.tell || !number || number == told_) return;
    told_ = number;  // once, whatever comes of it
    hooks_.tell(name_, *control_, *number);
  }

  void pause(milliseconds span, const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, span, [] { return false; });
  }

  const Hooks& hooks_;
  const SandboxName name_;
  const std::shared_ptr<guest::Control> control_;
  mutable std::mutex mutex_;  // guards the members below but the thread
  std::condition_variable_any changed_;
  sync::AutoSync policy_;
  std::shared_ptr<sync::HostMark> held_;  // what it points to is the thread's own
  std::map<std::uint64_t, Follower> followers_;
  std::deque<Json> history_;  // the last that landed, so that who asks again misses none
  Json last_outcome_ = Json::object();
  std::uint64_t sequence_ = 0, last_follower_ = 0;
  bool quiet_ = false, syncing_ = false, repeats_ = false, woken_ = false, lost_ = false, ended_ = false;
  std::stop_source looking_, syncing_stop_;
  std::string error_, counted_;
  std::optional<std::uint64_t> count_;
  std::optional<std::uint64_t> told_;  // the thread's own
  SteadyTime next_count_{};
  std::jthread thread_;
};

SyncWatch::SyncWatch(Hooks hooks) : hooks_(std::move(hooks)) {}

SyncWatch::~SyncWatch() {
  stop();
}

void SyncWatch::watch(const SandboxName& name, Settings settings, std::shared_ptr<guest::Control> control) {
  unwatch(name);
  if (!control) return;
  const auto fresh = std::make_shared<Watched>(hooks_, name, std::move(settings), std::move(control));
  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  fresh->set_quiet(quiet_.contains(name.str()));
  watched_[name.str()] = fresh;
  fresh->begin();
}

void SyncWatch::unwatch(const SandboxName& name) {
  std::shared_ptr<Watched> ending;  // joined outside the lock
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = watched_.find(name.str()); found != watched_.end()) {
      ending = std::move(found->second);
      watched_.erase(found);
    }
  }
  if (ending) ending->end();
}

std::shared_ptr<SyncWatch::Watched> SyncWatch::find(const SandboxName& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = watched_.find(name.str());
  return found == watched_.end() ? nullptr : found->second;
}

void SyncWatch::landed(const SandboxName& name, const std::string& token, const Json& outcome,
                       std::shared_ptr<sync::HostMark> held) {
  if (const auto watched = find(name)) watched->landed(token, outcome, std::move(held));
}

Json SyncWatch::status(const SandboxName& name) const {
  if (const auto watched = find(name)) return watched->status();
  return {{"state", "off"}, {"pending_commits", nullptr}, {"last_error", nullptr}, {"next_time", nullptr}};
}

std::uint64_t SyncWatch::sequence(const SandboxName& name) const {
  const auto watched = find(name);
  return watched ? watched->sequence() : 0;
}

std::shared_ptr<void> SyncWatch::follow(const SandboxName& name, std::uint64_t sequence, Follower follower) {
  const auto watched = find(name);
  if (!watched)
    throw Error(ErrorCode::wrong_state,
                name.str() + ": nobody hears from the guest's agent, so nothing can be followed",
                "agentvm status " + name.str());
  return watched->follow(sequence, follower);
}

SyncWatch::Quiet::Quiet(SyncWatch& watch, SandboxName name) : watch_(watch), name_(std::move(name)) {
  std::shared_ptr<Watched> watched;
  {
    const std::lock_guard lock(watch_.mutex_);
    ++watch_.quiet_[name_.str()];
    if (const auto found = watch_.watched_.find(name_.str()); found != watch_.watched_.end()) watched = found->second;
  }
  if (watched) watched->set_quiet(true);
}

SyncWatch::Quiet::~Quiet() {
  std::shared_ptr<Watched> watched;
  {
    const std::lock_guard lock(watch_.mutex_);
    if (--watch_.quiet_[name_.str()] > 0) return;
    watch_.quiet_.erase(name_.str());
    if (const auto found = watch_.watched_.find(name_.str()); found != watch_.watched_.end()) watched = found->second;
  }
  if (watched) watched->set_quiet(false);
}

void SyncWatch::stop() {
  std::map<std::string, std::shared_ptr<Watched>> all;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    all.swap(watched_);
  }
  for (const auto& [name, watched] : all) watched->end();
}

}  // namespace agentvm::manager
