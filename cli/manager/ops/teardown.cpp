#include "cli/manager/ops/teardown.hpp"

#include <fmt/format.h>

#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/virtiofs/mapped_process.hpp"
#include "vmm/virtiofs/virtiofsd.hpp"

namespace agentvm::manager {
namespace {

namespace steps {
constexpr const char* guest = "guest-power-off";
constexpr const char* domain = "domain-stop";
constexpr const char* share = "virtiofsd-stop";
constexpr const char* sockets = "sockets-remove";
}  // namespace steps

constexpr milliseconds poll_interval{50};
constexpr milliseconds stop_limit{20'000};
constexpr milliseconds ask_limit{10'000};

bool domain_is_gone(Hypervisor& hypervisor, const std::string& domain) {
  const auto info = hypervisor.find(domain, Deadline::after(stop_limit));
  return !info || info->state == DomainState::shut_off;
}

/// While a guest powers off: a hypervisor that cannot say is asked again, and whatever comes after it says why.
bool seems_gone(Hypervisor& hypervisor, const SandboxRecord& record) {
  try {
    return domain_is_gone(hypervisor, record.domain);
  } catch (const Error& error) {
    log::info("stop", "{}: {}", record.name.str(), error.what());
    return false;
  }
}

/// Asks the guest's agent, else its sshd, else its firmware's button.
bool ask_to_power_off(Core& core, const SandboxRecord& record, Hypervisor& hypervisor, Deadline grace) {
  const auto live = core.live(record.name);
  const auto control = live ? live->control() : nullptr;
  const auto session = live ? live->any_session_if_alive() : nullptr;
  const auto attempt = [&](const char* whom, const std::function<void()>& ask) {
    try {
      ask();
      return true;
    } catch (const Error& error) {
      log::info("stop", "{}: {} does not take the request to power off: {}", record.name.str(), whom, error.what());
      return false;
    }
  };
  if (control && control->alive() && attempt("the guest's agent", [&] {
        control->shutdown(grace.remaining(), grace.sooner(Deadline::after(ask_limit)));
      }))
    return true;
  if (session && attempt("the guest's sshd", [&] {
        guest::ExecSpec spec;
        spec.argv = {"sudo", "-n", "systemctl", "poweroff", "--no-block"};
        const auto status = session->exec(spec, grace)->wait(grace.sooner(Deadline::after(ask_limit)));
        if (!status || status->shell_code() != 0) throw Error(ErrorCode::operation_failed, "it refused");
      }))
    return true;
  return attempt("the machine", [&] { hypervisor.request_shutdown(record.domain, grace); });
}

/// Asks the guest to power off and waits for it; false when it did not within `grace`.
bool power_off(Core& core, const SandboxRecord& record, Hypervisor& hypervisor, Deadline grace) {
  if (!ask_to_power_off(core, record, hypervisor, grace)) return false;
  while (!grace.expired()) {
    if (seems_gone(hypervisor, record)) return true;
    system_clock().sleep(poll_interval);
  }
  return false;
}

/// Nothing where it cannot be opened and no machine was begun with it: a sandbox that could never start can be removed.
std::shared_ptr<Hypervisor> opened(Core& core, const SandboxRecord& record, Deadline deadline) {
  try {
    return core.hypervisor(record.libvirt_uri, deadline);
  } catch (const Error&) {
    if (record.boot) throw;
    return nullptr;
  }
}

void run_step(Core& core, const SandboxRecord& record, const std::string& step, milliseconds grace, Deadline deadline) {
  if (step == steps::guest || step == steps::domain) {
    if (record.domain.empty() || record.libvirt_uri.empty()) return;
    const auto hypervisor = opened(core, record, deadline);
    if (!hypervisor) return;
    if (step == steps::guest ? seems_gone(*hypervisor, record) : domain_is_gone(*hypervisor, record.domain)) return;
    if (step == steps::guest && !power_off(core, record, *hypervisor, Deadline::after(grace)))
      log::warn("stop", "{}: the guest did not power off within {} s; ending it", record.name.str(),
                grace.count() / 1000);
    if (step == steps::domain) hypervisor->stop(record.domain, Deadline::after(stop_limit).sooner(deadline));
  } else if (step == steps::share) {
    if (record.virtiofsd)
      stop_virtiofsd({record.virtiofsd->pid, record.virtiofsd->start_ticks},
                     Deadline::after(stop_limit).sooner(deadline));
  } else if (step == steps::sockets) {
    core.drop_live(record.name);
    remove_tree(core.paths().sockets(record.name.str()));
  }
}

}  // namespace

void tear_down(Core& core, const SandboxName& name, Shutdown how, milliseconds grace, Deadline deadline) {
  auto record = core.store().update(name, [&](SandboxRecord& r) {
    r.teardown = {steps::domain, steps::share, steps::sockets};
    if (how == Shutdown::graceful) r.teardown.insert(r.teardown.begin(), steps::guest);
  });
  core.watch().remove(name.str());  // its share is about to end because we want it
  while (!record.teardown.empty()) {
    const auto step = record.teardown.front();
    try {
      run_step(core, record, step, grace, deadline);
    } catch (Error& error) {
      error.while_doing(fmt::format("stopping {}, step {}", name.str(), step));
      throw;
    }
    record = core.store().update(name, [&](SandboxRecord& r) {
      if (!r.teardown.empty()) r.teardown.erase(r.teardown.begin());
      if (step == steps::share) r.virtiofsd.reset();
      if (step == steps::domain) r.boot.reset();
    });
  }
}

void erase(Core& core, const SandboxName& name, Deadline deadline) {
  core.wip_timer().wait_idle(name, deadline);  // its folder is in use until then
  if (core.store().get(name).state != SandboxState::destroying) core.apply(name, SandboxEvent::destroy, "user");
  core.egress().forget(name.str());
  core.secrets().forget(name);
  core.journal().remove(name.str());
  core.front().forget(name);
  // Files in there belong to subordinate ids; the rest of the folder is ours.
  remove_tree_mapped(core.store().folder(name) / sandbox_files::workspace, deadline);
  remove_tree_mapped(core.store().folder(name) / "workspace.new", deadline);
  core.store().remove(name, deadline);
}

}  // namespace agentvm::manager
