#include "cli/manager/ops/agent_watch.hpp"

#include <algorithm>
#include <vector>

#include "vmm/base/clock.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds patience{60'000}, answer_limit{70'000};
constexpr std::int64_t minute_seconds = 60;

}  // namespace

void AgentWatch::watch(const SandboxName& name, std::shared_ptr<guest::Control> control) {
  unwatch(name);
  if (!control) return;
  watches_.begin(
      name, [this, name, control = std::move(control)](const std::stop_token& stop) { follow(stop, name, *control); });
}

void AgentWatch::unwatch(const SandboxName& name) {
  watches_.end(name);
  const std::lock_guard lock(shared_->mutex);
  for (auto& [key, session] : shared_->sessions) {
    if (key.first != name.str()) continue;
    session.state.clear();
    session.since = 0;
  }
}

void AgentWatch::follow(const std::stop_token& stop, const SandboxName& name, guest::Control& control) {
  std::string token;
  follow_news(stop, control, "agent of " + name.str(), [&] {
    auto told = control.sessions(token, patience, stop, Deadline::after(answer_limit));
    // What is so already when we begin to look is no news: another manager may have told of it.
    const bool news = !token.empty();
    token = std::move(told.token);
    for (const auto& each : told.sessions)
      if (known_(name, each.name)) set(name, each, news);
    forget_unknown(name);
  });
}

void AgentWatch::forget_unknown(const SandboxName& name) {
  std::vector<Key> keys;
  {
    const std::lock_guard lock(shared_->mutex);
    for (const auto& [key, session] : shared_->sessions)
      if (key.first == name.str() && session.spectators == 0) keys.push_back(key);
  }
  std::erase_if(keys, [&](const Key& key) { return known_(name, key.second); });
  const std::lock_guard lock(shared_->mutex);
  for (const auto& key : keys) shared_->sessions.erase(key);
}

void AgentWatch::set(const SandboxName& name, const guest::GuestSession& told, bool news) {
  Session now;
  {
    const std::lock_guard lock(shared_->mutex);
    auto& session = shared_->sessions[{name.str(), told.name}];
    if (session.state == told.state && session.code == told.code) return;
    session.state = told.state;
    session.code = told.code;
    session.since = system_clock().unix_seconds();
    if (!news || !session.wants_human() || session.spectators > 0) return;
    auto& calls = shared_->calls[name.str()];
    while (!calls.empty() && session.since - calls.front() >= minute_seconds) calls.pop_front();
    if (calls.size() >= calls_a_minute) return;
    calls.push_back(session.since);
    now = session;
  }
  wanted_(name, told.name, now);
}

AgentWatch::Session AgentWatch::session(const SandboxName& name, const std::string& session) const {
  const std::lock_guard lock(shared_->mutex);
  const auto found = shared_->sessions.find({name.str(), session});
  return found == shared_->sessions.end() ? Session{} : found->second;
}

std::shared_ptr<void> AgentWatch::look(const SandboxName& name, const std::string& session) {
  const auto change = [key = Key(name.str(), session)](Shared& shared, int by) {
    const std::lock_guard lock(shared.mutex);
    auto& seen = shared.sessions[key];
    seen.spectators += static_cast<unsigned>(by);
    seen.seen = system_clock().unix_seconds();
  };
  change(*shared_, 1);
  return {nullptr, [change, weak = std::weak_ptr(shared_)](void*) {
            if (const auto shared = weak.lock()) change(*shared, -1);
          }};
}

std::optional<std::pair<SandboxName, std::string>> AgentWatch::next() const {
  struct Waiting {
    std::pair<std::int64_t, std::int64_t> order;
    Key key;
  };
  std::vector<Waiting> waiting;
  {
    const std::lock_guard lock(shared_->mutex);
    for (const auto& [key, session] : shared_->sessions) {
      if (!session.wants_human() || session.spectators > 0) continue;
      // What nobody has seen yet comes first.
      waiting.push_back({{session.seen >= session.since ? session.seen : 0, session.since}, key});
    }
  }
  std::ranges::stable_sort(waiting, {}, &Waiting::order);
  for (const auto& [order, key] : waiting) {
    auto name = SandboxName::parse(key.first);
    // The session of a work tree that was just removed waits until its guest tells of the others again.
    if (known_(name, key.second)) return std::pair(std::move(name), key.second);
  }
  return std::nullopt;
}

}  // namespace agentvm::manager
