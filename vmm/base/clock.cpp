#include "vmm/base/clock.hpp"

#include <ctime>
#include <thread>

#include "vmm/base/error.hpp"

namespace agentvm {

Deadline Deadline::after(milliseconds span) {
  return Deadline(std::chrono::steady_clock::now() + span);
}
Deadline Deadline::never() {
  return Deadline(SteadyTime::max());
}
bool Deadline::expired() const {
  return at_ != SteadyTime::max() && std::chrono::steady_clock::now() >= at_;
}

milliseconds Deadline::remaining() const {
  if (at_ == SteadyTime::max()) return milliseconds::max();
  const auto left = std::chrono::ceil<milliseconds>(at_ - std::chrono::steady_clock::now());
  return left.count() < 0 ? milliseconds(0) : left;
}

int Deadline::poll_timeout() const {
  const auto left = remaining();
  if (left == milliseconds::max()) return -1;
  constexpr long long one_day_milliseconds = 86'400'000;
  return static_cast<int>(left.count() > one_day_milliseconds ? one_day_milliseconds : left.count());
}

namespace {
class SystemClock final : public Clock {
 public:
  SteadyTime steady() override { return std::chrono::steady_clock::now(); }
  std::int64_t unix_seconds() override { return static_cast<std::int64_t>(::time(nullptr)); }
  void sleep(milliseconds span) override { std::this_thread::sleep_for(span); }
};
}  // namespace

Clock& system_clock() {
  static SystemClock clock;
  return clock;
}

std::string format_time(std::int64_t unix_seconds) {
  const std::time_t seconds = unix_seconds;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::int64_t parse_time(const std::string& text) {
  std::tm parts{};
  const char* end = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  if (!end || *end) throw Error(ErrorCode::usage, "'" + text + "' is not a time like 2026-01-31T08:09:10Z");
  return ::timegm(&parts);
}

}  // namespace agentvm
