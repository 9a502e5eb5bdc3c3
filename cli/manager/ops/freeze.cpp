#include "cli/manager/ops/freeze.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/notify.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds machine_limit{30'000};
constexpr milliseconds try_again{1'000};
constexpr const char* decoy_reason = "decoy";

/// Until it stands still: whatever the driver says meanwhile, the way out is shut.
void freeze(Core& core, const SandboxName& name, const std::string& why) {
  const auto record = core.store().find(name);
  if (!record || record->frozen.empty()) return;  // destroyed meanwhile, or let go on
  try {
    if (record->state == SandboxState::starting && end_start(core, name, why)) return;
    stop_vcpus(core, name, decoy_reason, why);
    // Nobody lets the one of a run go on: its command ends now, and the run with it.
    if (const auto live = core.live(name); live && record->throw_away) live->close();
  } catch (const Error& error) {
    log::error("freeze", "{}: its vCPUs do not stop: {}", name.str(), error.what());
    core.janitor().post_later(try_again, "freeze " + name.str(), [&core, name, why] { freeze(core, name, why); });
  }
}

}  // namespace

void freeze_for_decoy(Core& core, const egress::Decision& decision) {
  const auto name = SandboxName::parse(decision.sandbox);
  core.janitor().post("freeze " + name.str(), [&core, name, why = decision.reason] {
    log::error("freeze", "{}: {}", name.str(), why);
    if (!core.store().find(name)) return;
    try {
      core.store().update(name, [&](SandboxRecord& r) { r.frozen = why; });
    } catch (const Error& error) {  // on a full disk: what the event records says somebody else stopped it
      log::error("freeze", "{}: {}", name.str(), error.what());
    }
    freeze(core, name, why);
    notify_decoy(core, name);
  });
}

void check_not_frozen(const SandboxRecord& record) {
  if (record.frozen.empty()) return;
  throw Error(ErrorCode::wrong_state, fmt::format("'{}' is frozen: {}", record.name.str(), record.frozen),
              "agentvm resume " + record.name.str() + ", once you know what it was");
}

SandboxRecord thaw(Core& core, const SandboxRecord& record) {
  if (record.frozen.empty()) return record;
  log::warn("freeze", "{} may go on: its user says so", record.name.str());
  const auto thawed = core.store().update(record.name, [](SandboxRecord& r) { r.frozen.clear(); });
  core.egress().thaw(record.name.str());
  return thawed;
}

SandboxRecord keep_frozen(Core& core, const SandboxRecord& record) {
  if (record.frozen.empty()) return record;
  core.hypervisor(record.libvirt_uri, Deadline::after(machine_limit))
      ->pause(record.domain, Deadline::after(machine_limit));
  if (record.state != SandboxState::running) return record;
  return core.apply(record.name, SandboxEvent::pause, decoy_reason, record.frozen);
}

void stop_vcpus(Core& core, const SandboxName& name, const std::string& reason, const std::string& message) {
  const auto hold = core.try_hold(name);  // with it the event finds what is recorded here
  const auto record = core.store().get(name);
  if (record.state != SandboxState::running) return;
  const auto live = core.live(name);
  if (live) live->expect_silence(true);
  try {
    core.hypervisor(record.libvirt_uri, Deadline::after(machine_limit))
        ->pause(record.domain, Deadline::after(machine_limit));
  } catch (const Error&) {
    if (live) live->expect_silence(false);
    throw;
  }
  log::warn("manager", "{} is paused: {}", name.str(), message);
  if (!hold) return;
  core.apply(name, SandboxEvent::pause, reason, message);
  // Ending what asks the guest waits for a guest that does not answer now.
  core.janitor().post("silence of " + name.str(), [&core, name] {
    const auto quiet = core.try_hold(name);
    if (!quiet) return;  // it is resumed, which begins them anew, or ended
    const auto now = core.store().find(name);
    if (now && now->state == SandboxState::paused) core.leave_guest(name);
  });
}

bool end_start(Core& core, const SandboxName& name, const std::string& message) {
  const auto record = core.store().update(name, [&](SandboxRecord& r) {
    if (r.state == SandboxState::starting && r.boot) r.message = message;
  });
  if (record.state != SandboxState::starting || !record.boot) return false;
  log::warn("manager", "the machine of {} is ended while it starts: {}", name.str(), message);
  core.hypervisor(record.libvirt_uri, Deadline::after(machine_limit))
      ->stop(record.domain, Deadline::after(machine_limit));
  return true;
}

}  // namespace agentvm::manager
