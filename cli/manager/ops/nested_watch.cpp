#include "cli/manager/ops/nested_watch.hpp"

#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds patience{60'000}, answer_limit{70'000}, warning_pause{60'000};

}  // namespace

void NestedWatch::watch(const SandboxName& name, std::shared_ptr<guest::Control> control) {
  unwatch(name);
  if (!control) return;
  watches_.begin(
      name, [this, name, control = std::move(control)](const std::stop_token& stop) { follow(stop, name, *control); });
}

void NestedWatch::unwatch(const SandboxName& name) {
  watches_.end(name);
  const std::lock_guard lock(mutex_);
  states_.erase(name.str());
}

std::optional<guest::GuestNested> NestedWatch::state(const SandboxName& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = states_.find(name.str());
  return found == states_.end() || !found->second.limited ? std::nullopt : std::optional(found->second);
}

void NestedWatch::follow(const std::stop_token& stop, const SandboxName& name, guest::Control& control) {
  std::string token;
  std::optional<SteadyTime> warned;
  follow_news(stop, control, "machines within " + name.str(), [&] {
    const auto told = control.nested(token, patience, stop, Deadline::after(answer_limit));
    std::uint64_t before = told.ended;
    {
      const std::lock_guard lock(mutex_);
      auto& known = states_[name.str()];
      if (!known.token.empty()) before = known.ended;
      known = told;
    }
    token = told.token;
    // A guest may say so as often as it likes.
    const auto now = std::chrono::steady_clock::now();
    if (told.ended <= before || (warned && now - *warned < warning_pause)) return;
    warned = now;
    log::warn("nested", "{}: its kernel ended a virtual machine within it: more memory than limits.nested_memory",
              name.str());
  });
}

}  // namespace agentvm::manager
