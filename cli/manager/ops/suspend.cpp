#include "cli/manager/ops/suspend.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/freeze.hpp"
#include "cli/manager/ops/machine_limits.hpp"
#include "cli/manager/ops/recordings.hpp"
#include "cli/manager/ops/rescue.hpp"
#include "cli/manager/ops/running.hpp"
#include "cli/manager/ops/saved_state.hpp"
#include "cli/manager/ops/status.hpp"
#include "cli/manager/ops/terminals.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds hold_limit{20'000};
constexpr milliseconds machine_limit{30'000};
constexpr milliseconds answer_limit{30'000};
constexpr milliseconds write_limit{15'000};

void set_clock(Core& core, const SandboxName& name, Deadline deadline) {
  const auto live = core.live(name);
  if (const auto control = live ? live->control() : nullptr) set_guest_clock(*control, deadline);
}

/// Stops the vCPUs; what asks the guest meanwhile is told first that it will be silent.
void pause_machine(Core& core, const SandboxRecord& record) {
  const auto live = core.live(record.name);
  if (live) live->expect_silence(true);
  try {
    core.hypervisor(record.libvirt_uri, Deadline::after(machine_limit))
        ->pause(record.domain, Deadline::after(machine_limit));
  } catch (const Error&) {
    if (live) live->expect_silence(false);
    throw;
  }
}

/// A machine that could not be resumed as a whole is as it was: the record says so, too.
void stop_again(Hypervisor& hypervisor, const SandboxRecord& record) {
  try {
    hypervisor.pause(record.domain, Deadline::after(machine_limit));
  } catch (const Error& error) {
    log::warn("resume", "{}: its vCPUs are not stopped again: {}", record.name.str(), error.what());
  }
}

}  // namespace

void write_back(Core& core, const SandboxName& name, Deadline deadline) {
  const auto live = core.live(name);
  if (const auto control = live ? live->control() : nullptr) try {
      control->sync(deadline);
    } catch (const Error& error) {
      log::info("manager", "{}: its disk is not written back: {}", name.str(), error.what());
    }
}

void stop_vcpus(Core& core, const SandboxName& name, const std::string& reason, const std::string& message) {
  const auto hold = core.try_hold(name);  // with it the event finds what is recorded here
  const auto record = core.store().get(name);
  if (record.state != SandboxState::running) return;
  pause_machine(core, record);
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
  auto record = core.store().get(name);
  try {
    record = core.store().update(name, [&](SandboxRecord& r) {
      if (r.state == SandboxState::starting && r.boot) r.message = message;
    });
  } catch (const Error& error) {  // on a full disk its start fails without the reason, but it does fail
    log::warn("manager", "{}: {}", name.str(), error.what());
  }
  if (record.state != SandboxState::starting || !record.boot) return false;
  log::warn("manager", "the machine of {} is ended while it starts: {}", name.str(), message);
  core.hypervisor(record.libvirt_uri, Deadline::after(machine_limit))
      ->stop(record.domain, Deadline::after(machine_limit));
  return true;
}

SandboxRecord wake(Core& core, const SandboxRecord& record) {
  const auto& name = record.name;
  const auto live = core.live(name);
  if (core.as_seen(record).state != SandboxState::paused) return record;
  check_not_frozen(record);
  const auto deadline = Deadline::after(machine_limit + answer_limit);
  const auto hypervisor = core.hypervisor(record.libvirt_uri, deadline);
  try {
    if (live) {
      hypervisor->resume(record.domain, deadline);
      live->expect_silence(false);
    } else {  // a manager that came after the pause
      connect_running(core, record, deadline, [&] { hypervisor->resume(record.domain, deadline); });
    }
  } catch (Error& error) {
    if (live) live->expect_silence(true);
    stop_again(*hypervisor, record);
    error.while_doing("resuming " + name.str());
    error.with_hint("agentvm stop " + name.str() + " --force");
    throw;
  }
  const bool recorded = record.state == SandboxState::paused;
  const auto woken = recorded ? core.apply(name, SandboxEvent::resume, "user") : record;
  if (live) core.follow_guest(name);
  try {
    set_clock(core, name, Deadline::after(answer_limit));
  } catch (const Error& error) {
    log::warn("resume", "{}: its clock is not set: {}", name.str(), error.what());
  }
  dial_data(core, name);
  return woken;
}

Json suspend_sandbox(Core& core, CallContext& call, const Json& params) {
  auto record = core.resolve(params);
  const SyncWatch::Quiet quiet(core.syncs(), record.name);
  const auto hold = core.hold(record.name, Deadline::after(hold_limit));
  record = core.store().get(record.name);
  const bool save = value_or<bool>(params, "save", false);
  if (save) check_not_frozen(record);
  const auto seen = core.as_seen(record).state;
  std::vector<std::string> rescued;
  const auto bring_home = [&] {
    rescued = rescue(core, call, record, Rescue::best_effort).refs;
    write_back(core, record.name, Deadline::after(write_limit));
  };
  if (save && seen != SandboxState::saved) {
    next(seen, SandboxEvent::saved, record.name.str());  // said before anything is done
    check_savable(core, record);
    record = wake(core, record);  // the guest must see that we hang up
    bring_home();
    keep_agent_logs(core, record);
    keep_recordings(core, record);
    record = save_to_disk(core, call, record);
  } else if (!save && seen != SandboxState::paused) {
    next(record.state, SandboxEvent::pause, record.name.str());
    bring_home();
    pause_machine(core, record);
    record = core.apply(record.name, SandboxEvent::pause, "user");
    core.leave_guest(record.name);
  }
  auto status = sandbox_status(core, record, Detail::brief);
  status["rescued"] = rescued;
  return status;
}

Json resume_sandbox(Core& core, CallContext& call, const Json& params) {
  auto record = core.resolve(params);
  const auto hold = core.hold(record.name, Deadline::after(hold_limit));
  record = core.store().get(record.name);
  const bool runs = record.state != SandboxState::stopped && record.state != SandboxState::failed;
  const bool frozen = !record.frozen.empty();
  record = thaw(core, record);
  if (frozen && !runs) return sandbox_status(core, record, Detail::brief);  // for its next start
  if (record.state == SandboxState::saved) {
    record = restore_from_disk(core, call, record);
  } else if (core.as_seen(record).state != SandboxState::running) {
    next(core.as_seen(record).state, SandboxEvent::resume, record.name.str());
    check_disk_reserve(core, "resuming " + record.name.str());
    record = wake(core, record);
  }
  return sandbox_status(core, record, Detail::brief);
}

}  // namespace agentvm::manager
