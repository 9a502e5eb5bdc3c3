#include "cli/manager/ops/freeze.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/notify.hpp"
#include "cli/manager/ops/suspend.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds machine_limit{30'000};
constexpr milliseconds try_again{1'000};
constexpr const char* decoy_reason = "decoy";

/// Until it stands still and is recorded: whatever the driver or the host's disk says meanwhile, the way out is shut.
void freeze(Core& core, const SandboxName& name, const std::string& why, bool recorded) {
  const auto record = core.store().find(name);
  if (!record) return;                             // destroyed meanwhile
  if (recorded && record->frozen.empty()) return;  // its user let it go on
  std::string left;
  try {
    if (!recorded) core.store().update(name, [&](SandboxRecord& r) { r.frozen = why; });
    recorded = true;
  } catch (const Error& error) {
    left = error.what();
  }
  try {
    const bool ended = record->state == SandboxState::starting && end_start(core, name, why);
    if (!ended) stop_vcpus(core, name, decoy_reason, why);
    // Nobody lets the one of a run go on: its command ends now, and the run with it.
    if (const auto live = core.live(name); live && record->throw_away) live->close();
  } catch (const Error& error) {
    left = error.what();
  }
  if (left.empty()) return;
  log::error("freeze", "{} is not frozen yet: {}", name.str(), left);
  core.janitor().post_later(try_again, "freeze " + name.str(),
                            [&core, name, why, recorded] { freeze(core, name, why, recorded); });
}

}  // namespace

void freeze_for_decoy(Core& core, const egress::Decision& decision) {
  const auto name = SandboxName::parse(decision.sandbox);
  core.janitor().post("freeze " + name.str(), [&core, name, why = decision.reason] {
    freeze(core, name, why, false);
    notify_decoy(core, name);
  });
}

Error frozen_error(const SandboxRecord& record) {
  return {ErrorCode::wrong_state, fmt::format("'{}' is frozen: {}", record.name.str(), record.frozen),
          "agentvm resume " + record.name.str() + ", once you know what it was"};
}

void check_not_frozen(const SandboxRecord& record) {
  if (!record.frozen.empty()) throw frozen_error(record);
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

}  // namespace agentvm::manager
