#include "proxy/egress/questions.hpp"

#include <algorithm>

namespace agentvm::egress {
namespace {

constexpr std::chrono::minutes notice_span{1};

}  // namespace

Questions::Place Questions::hold(const std::string& rule, SteadyTime now, std::int64_t unix_seconds) {
  if (connections_ >= limits_.connections) return {};
  const auto found = open_.find(rule);
  if (found != open_.end()) {
    // Its time is up: those who wait are about to be refused, and so is whoever comes while they are.
    if (found->second.due <= now) return {};
    ++found->second.connections;
    ++connections_;
    return {.kind = Place::Kind::joined, .due = found->second.due};
  }
  if (open_.size() >= limits_.names) return {};
  const SteadyTime due = now + limits_.time;
  open_[rule] = {.rule = rule, .since = unix_seconds, .due = due, .connections = 1};
  ++connections_;
  return {.kind = Place::Kind::asked, .due = due, .notice = notice_for(rule, now)};
}

void Questions::leave(const std::string& rule) {
  const auto found = open_.find(rule);
  if (found == open_.end()) return;
  --connections_;
  if (--found->second.connections == 0) open_.erase(found);
}

std::vector<Question> Questions::open() const {
  std::vector<Question> result;
  for (const auto& [rule, question] : open_) result.push_back(question);
  std::stable_sort(result.begin(), result.end(), [](const Question& a, const Question& b) { return a.due < b.due; });
  return result;
}

Notice Questions::notice_for(const std::string& rule, SteadyTime now) {
  while (!notices_.empty() && now - notices_.front().first >= notice_span) notices_.pop_front();
  const bool told =
      std::any_of(notices_.begin(), notices_.end(), [&](const auto& notice) { return notice.second == rule; });
  if (told || notices_.size() >= limits_.notices_a_minute) return Notice::silent;
  notices_.emplace_back(now, rule);
  return Notice::due;
}

}  // namespace agentvm::egress
