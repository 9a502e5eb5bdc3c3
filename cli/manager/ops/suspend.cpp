#include "cli/manager/ops/suspend.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/machine_limits.hpp"
#include "cli/manager/ops/rescue.hpp"
#include "cli/manager/ops/running.hpp"
#include "cli/manager/ops/status.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds hold_limit{20'000};
constexpr milliseconds machine_limit{30'000};
constexpr milliseconds answer_limit{30'000};
constexpr milliseconds write_limit{15'000};

void set_clock(Core& core, const SandboxName& name, Deadline deadline) {
  const auto live = core.live(name);
  const auto control = live ? live->control() : nullptr;
  if (!control) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  control->set_time(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count(), deadline);
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

SandboxRecord wake(Core& core, const SandboxRecord& record) {
  const auto& name = record.name;
  const auto live = core.live(name);
  if (core.as_seen(record).state != SandboxState::paused) return record;
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
  std::vector<std::string> rescued;
  if (core.as_seen(record).state != SandboxState::paused) {
    next(record.state, SandboxEvent::pause, record.name.str());  // said before anything is done
    rescued = rescue(core, call, record, Rescue::best_effort).refs;
    write_back(core, record.name, Deadline::after(write_limit));
    const auto live = core.live(record.name);
    if (live) live->expect_silence(true);
    try {
      core.hypervisor(record.libvirt_uri, Deadline::after(machine_limit))
          ->pause(record.domain, Deadline::after(machine_limit));
    } catch (const Error&) {
      if (live) live->expect_silence(false);
      throw;
    }
    record = core.apply(record.name, SandboxEvent::pause, "user");
    core.leave_guest(record.name);
  }
  auto status = sandbox_status(core, record, Detail::brief);
  status["rescued"] = rescued;
  return status;
}

Json resume_sandbox(Core& core, CallContext&, const Json& params) {
  auto record = core.resolve(params);
  const auto hold = core.hold(record.name, Deadline::after(hold_limit));
  record = core.store().get(record.name);
  if (core.as_seen(record).state != SandboxState::running) {
    next(core.as_seen(record).state, SandboxEvent::resume, record.name.str());
    check_disk_reserve(core, "resuming " + record.name.str());
    record = wake(core, record);
  }
  return sandbox_status(core, record, Detail::brief);
}

}  // namespace agentvm::manager
