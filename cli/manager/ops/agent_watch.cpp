#include "cli/manager/ops/agent_watch.hpp"

#include "cli/manager/ops/guest_news.hpp"
#include "vmm/base/clock.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds patience{60'000}, answer_limit{70'000};
constexpr std::int64_t minute_seconds = 60;

}  // namespace

AgentWatch::~AgentWatch() {
  stop();
}

void AgentWatch::watch(const SandboxName& name, const std::string& session, std::shared_ptr<guest::Control> control) {
  unwatch(name);
  if (!control) return;
  const std::lock_guard lock(shared_->mutex);
  if (stopped_) return;
  watches_[name.str()] = std::jthread([this, name, session, control = std::move(control)](const std::stop_token& stop) {
    follow(stop, name, session, *control);
  });
}

void AgentWatch::unwatch(const SandboxName& name) {
  std::jthread ending;
  {
    const std::lock_guard lock(shared_->mutex);
    if (const auto found = watches_.find(name.str()); found != watches_.end()) {
      ending = std::move(found->second);
      watches_.erase(found);
    }
  }
  ending = {};  // joined outside the lock, and before what it may still set is forgotten
  const std::lock_guard lock(shared_->mutex);
  if (const auto found = shared_->sessions.find(name.str()); found != shared_->sessions.end()) {
    found->second.state.clear();
    found->second.since = 0;
  }
}

void AgentWatch::follow(const std::stop_token& stop, const SandboxName& name, const std::string& session,
                        guest::Control& control) {
  std::string token;
  follow_news(stop, control, "agent of " + name.str(), [&] {
    auto told = control.sessions(token, patience, stop, Deadline::after(answer_limit));
    // What is so already when we begin to look is no news: another manager may have told of it.
    const bool news = !token.empty();
    token = std::move(told.token);
    for (const auto& each : told.sessions)
      if (each.name == session) set(name, each, news);
  });
}

void AgentWatch::set(const SandboxName& name, const guest::GuestSession& told, bool news) {
  Session now;
  {
    const std::lock_guard lock(shared_->mutex);
    auto& session = shared_->sessions[name.str()];
    if (session.state == told.state && session.code == told.code) return;
    session.state = told.state;
    session.code = told.code;
    session.since = system_clock().unix_seconds();
    if (!news || !session.wants_human() || session.spectators > 0) return;
    while (!session.told.empty() && session.since - session.told.front() >= minute_seconds) session.told.pop_front();
    if (session.told.size() >= calls_a_minute) return;
    session.told.push_back(session.since);
    now = session;
  }
  wanted_(name, now);
}

AgentWatch::Session AgentWatch::session(const SandboxName& name) const {
  const std::lock_guard lock(shared_->mutex);
  const auto found = shared_->sessions.find(name.str());
  return found == shared_->sessions.end() ? Session{} : found->second;
}

std::shared_ptr<void> AgentWatch::look(const SandboxName& name) {
  const auto change = [name = name.str()](Shared& shared, int by) {
    const std::lock_guard lock(shared.mutex);
    auto& session = shared.sessions[name];
    session.spectators += static_cast<unsigned>(by);
    session.seen = system_clock().unix_seconds();
  };
  change(*shared_, 1);
  return {nullptr, [change, weak = std::weak_ptr(shared_)](void*) {
            if (const auto shared = weak.lock()) change(*shared, -1);
          }};
}

std::optional<SandboxName> AgentWatch::next() const {
  const std::lock_guard lock(shared_->mutex);
  const std::string* best = nullptr;
  std::pair<std::int64_t, std::int64_t> least;
  for (const auto& [name, session] : shared_->sessions) {
    if (!session.wants_human() || session.spectators > 0) continue;
    // What nobody has seen yet comes first.
    const std::pair order(session.seen >= session.since ? session.seen : 0, session.since);
    if (best && least <= order) continue;
    best = &name;
    least = order;
  }
  return best ? std::optional(SandboxName::parse(*best)) : std::nullopt;
}

void AgentWatch::stop() {
  std::map<std::string, std::jthread> ending;
  {
    const std::lock_guard lock(shared_->mutex);
    stopped_ = true;
    ending.swap(watches_);
  }
  for (auto& [name, watch] : ending) watch.request_stop();
}

}  // namespace agentvm::manager
