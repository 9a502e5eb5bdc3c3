#include "cli/manager/ops/running.hpp"

#include <algorithm>
#include <future>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/manager/ops/call_relay.hpp"
#include "cli/manager/ops/egress_policy.hpp"
#include "cli/manager/ops/freeze.hpp"
#include "cli/manager/ops/saved_state.hpp"
#include "cli/manager/ops/stop_op.hpp"
#include "cli/manager/ops/teardown.hpp"
#include "proxy/egress/guest_settings.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/config.hpp"
#include "vmm/host.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds call_limit{20'000};
constexpr milliseconds teardown_limit{60'000};
constexpr milliseconds take_over_limit{10'000};  // a client waits 30 s for a manager that starts
constexpr milliseconds redial_pause{2'000};
constexpr milliseconds longest_agent_pause{60'000};
constexpr milliseconds hello_limit{10'000};
constexpr milliseconds full_disk_pause{10'000};
constexpr milliseconds found_again_pause{15'000};
constexpr milliseconds end_notice_limit{10'000};
constexpr milliseconds own_end_limit{3'000};
constexpr milliseconds dial_limit{60'000};

guest::SshEndpoint endpoint_of(Core& core, const SandboxRecord& record) {
  const auto folder = core.store().folder(record.name);
  guest::SshEndpoint endpoint;
  endpoint.port = record.ssh_port;
  endpoint.private_key = (folder / sandbox_files::client_key).string();
  endpoint.host_key = read_file(folder / sandbox_files::host_key_public, 4096);
  while (!endpoint.host_key.empty() && endpoint.host_key.back() == '\n') endpoint.host_key.pop_back();
  endpoint.name = record.name.str();
  return endpoint;
}

/// The data session carries egress: without it the guest has no way out, so a lost one is dialled again for as long as
/// the machine runs.
void redial_data(Core& core, const SandboxName& name) {
  const auto live = core.live(name);
  if (!live || live->session_if_alive(Session::data)) return;
  if (const auto record = core.store().find(name); !record || record->state == SandboxState::paused) return;
  try {
    live->session(Session::data, Deadline::after(dial_limit));
    log::info("ssh", "{}: the data session is back", name.str());
  } catch (const Error& error) {
    log::warn("ssh", "{}: the data session is down: {}", name.str(), error.what());
    core.janitor().post_later(redial_pause, "redial " + name.str(), [&core, name] { redial_data(core, name); });
  }
}

void redial_agent(Core& core, const SandboxName& name, milliseconds pause);

/// Ports, live sync and the agents' states come over it, and an orderly stop: a lost one is dialled again. A guest that
/// breaks it again and again is asked less and less often.
void adopt_control(Core& core, const SandboxName& name, LiveSandbox& live, std::shared_ptr<guest::Control> control,
                   milliseconds pause) {
  live.set_control(control);
  const auto since = std::chrono::steady_clock::now();
  control->on_lost([&core, name, since, pause](const std::string&) {
    const bool lasted = std::chrono::steady_clock::now() - since > longest_agent_pause;
    const auto next = lasted ? redial_pause : std::min(pause * 2, longest_agent_pause);
    core.janitor().post_later(next, "agent of " + name.str(), [&core, name, next] { redial_agent(core, name, next); });
  });
}

void redial_agent(Core& core, const SandboxName& name, milliseconds pause) {
  const auto live = core.live(name);
  const auto record = core.store().find(name);
  if (!live || !record) return;
  if (const auto control = live->control(); control && control->alive()) return;
  const auto again = [&](milliseconds next) {
    core.janitor().post_later(next, "agent of " + name.str(), [&core, name, next] { redial_agent(core, name, next); });
  };
  if (record->state == SandboxState::paused) return again(pause);
  if (record->state != SandboxState::running) return;
  try {
    std::shared_ptr<guest::Control> control =
        guest::Control::connect(core.paths().sockets(name.str()) / socket_files::agent, Deadline::after(hello_limit));
    control->hello(Deadline::after(hello_limit));
    adopt_control(core, name, *live, std::move(control), pause);
    core.leave_guest(name);
    core.follow_guest(name);
    log::info("manager", "{}: the guest's agent is back", name.str());
  } catch (const Error& error) {
    log::warn("manager", "{}: the guest's agent does not answer: {}", name.str(), error.what());
    again(std::min(pause * 2, longest_agent_pause));
  }
}

void watch_share(Core& core, const SandboxRecord& record) {
  if (!record.virtiofsd) return;
  const auto share_lost = [&core, domain = record.domain, share = *record.virtiofsd] {
    core.janitor().post("share of " + domain, [&core, domain, share] {
      machine_ended(core, domain, "share-lost",
                    "virtiofsd, which shares /workspace, ended: the guest cannot go on without it", share);
    });
  };
  if (!core.watch().add(record.name.str(), record.virtiofsd->pid, record.virtiofsd->start_ticks, share_lost))
    share_lost();
}

void wire(Core& core, LiveSandbox& live, const SandboxRecord& record) {
  const auto name = record.name;
  if (record.network == NetworkMode::filtered) {
    core.journal().add(name.str(), core.store().folder(name) / sandbox_files::egress_journal);
    core.egress().set_caps(name.str(), cap_ledger(core, record));
    if (!record.frozen.empty()) core.egress().freeze(name.str());
    apply_egress_policy(core, name);
    live.on_data_session([&core, name](guest::Streams& streams, Deadline deadline) {
      return streams.accept(
          egress::guest_proxy_port,
          [&core, name](UniqueFd connection) { core.egress().serve(std::move(connection), name.str()); }, deadline);
    });
  }
  live.on_data_lost(
      [&core, name] { core.janitor().post("redial " + name.str(), [&core, name] { redial_data(core, name); }); });
  watch_share(core, record);
}

DomainState machine_state(Core& core, const SandboxRecord& record) {
  if (record.domain.empty() || record.libvirt_uri.empty()) return DomainState::shut_off;
  const auto hypervisor = core.hypervisor(record.libvirt_uri, Deadline::after(call_limit));
  const auto info = hypervisor->find(record.domain, Deadline::after(call_limit));
  return info ? info->state : DomainState::shut_off;
}

bool machine_runs(Core& core, const SandboxRecord& record) {
  return machine_state(core, record) != DomainState::shut_off;
}

/// Right after a machine ended libvirt still takes it for running, until it hears of it.
bool machine_is_going(Core& core, const SandboxRecord& record, milliseconds limit) {
  for (const auto deadline = Deadline::after(limit); !deadline.expired(); system_clock().sleep(milliseconds(100)))
    if (!machine_runs(core, record)) return true;
  return false;
}

/// Brings record and machine to one opinion of whether its vCPUs are stopped: the machine's.
SandboxRecord match_pause(Core& core, const SandboxRecord& record) {
  const bool paused = machine_state(core, record) == DomainState::paused;
  if (paused && record.state == SandboxState::running)
    return record.frozen.empty() ? core.apply(record.name, SandboxEvent::pause, "host", host_paused_message)
                                 : core.apply(record.name, SandboxEvent::pause, "decoy", record.frozen);
  if (!paused && record.state == SandboxState::paused)
    return core.apply(record.name, SandboxEvent::resume, "host", "its vCPUs were resumed by somebody else");
  return record;
}

/// What a machine that runs without a manager needs to be ours again. One whose vCPUs are stopped is connected when it
/// is resumed.
void take_over(Core& core, SandboxRecord record) {
  core.serial().add(record.name.str(), core.paths().sockets(record.name.str()) / socket_files::serial,
                    core.store().folder(record.name));
  record = match_pause(core, keep_frozen(core, record));
  if (record.state == SandboxState::paused) return watch_share(core, record);
  try {
    connect_running(core, record, Deadline::after(take_over_limit), {});
  } catch (const Error& error) {
    if (machine_is_going(core, record, own_end_limit)) throw;  // nobody will answer any more
    // The machine runs; a guest whose agent hangs must still be reachable by ssh, stop and destroy.
    log::warn("manager", "{}: the guest's agent does not answer: {}", record.name.str(), error.what());
    auto live = std::make_shared<LiveSandbox>(endpoint_of(core, record));
    wire(core, *live, record);
    core.set_live(record.name, live);
    core.janitor().post_later(redial_pause, "agent of " + record.name.str(),
                              [&core, name = record.name] { redial_agent(core, name, redial_pause); });
  }
  dial_data(core, record.name);
}

/// A share ends with its machine, whose own end says how that was.
bool ended_with_its_machine(Core& core, const SandboxRecord& record) {
  try {
    return machine_is_going(core, record, own_end_limit);
  } catch (const Error& error) {  // then the share's end is all that is known
    log::warn("manager", "{}: {}", record.name.str(), error.what());
    return false;
  }
}

void reconcile_one(Core& core, const SandboxRecord& record) {
  const auto& name = record.name;
  const auto gone_limit = Deadline::after(teardown_limit);
  sweep_saved(core, record);
  switch (record.state) {
    case SandboxState::running:
    case SandboxState::paused:
      if (machine_runs(core, record)) try {
          return take_over(core, record);
        } catch (const Error&) {
          if (!machine_is_going(core, record, end_notice_limit)) throw;
        }
      {
        const bool rebooted = record.boot && record.boot->boot_id != read_host_facts().boot_id;
        core.apply(name, SandboxEvent::crashed, rebooted ? "host-reboot" : "crash",
                   rebooted ? "the host was restarted" : "the machine ended while no manager was running");
      }
      return tear_down(core, name, Shutdown::forced, milliseconds(0), gone_limit);
    case SandboxState::preparing:
    case SandboxState::starting:
      if (record.saved) {  // nothing of it has run since
        tear_down(core, name, Shutdown::forced, milliseconds(0), gone_limit);
        core.apply(name, SandboxEvent::saved, "manager-ended", "it was not resumed to the end");
        return;
      }
      core.apply(name, SandboxEvent::failed, "manager-ended", "the start did not come to an end");
      return tear_down(core, name, Shutdown::forced, milliseconds(0), gone_limit);
    case SandboxState::stopping:
      tear_down(core, name, Shutdown::forced, milliseconds(0), gone_limit);
      core.apply(name, SandboxEvent::ended, record.reason);
      return;
    case SandboxState::destroying:
      tear_down(core, name, Shutdown::forced, milliseconds(0), gone_limit);
      return erase(core, name, gone_limit);
    case SandboxState::defined:
    case SandboxState::stopped:
    case SandboxState::failed:
      if (!record.teardown.empty()) tear_down(core, name, Shutdown::forced, milliseconds(0), gone_limit);
      return;
    case SandboxState::saved:  // whose machine may not have been ended yet
      return tear_down(core, name, Shutdown::forced, milliseconds(0), gone_limit);
  }
}

/// Whose machines may be ours: the embedded driver once it was used, what records name, and what the user configured.
std::set<std::string> drivers_in_use(Core& core, const StoreListing& listing) {
  std::set<std::string> uris;
  for (const auto& record : listing.records)
    if (record.libvirt_uri.starts_with("qemu:///s")) uris.insert(record.libvirt_uri);
  if (fs::exists(core.paths().libvirt_root())) uris.insert("auto");
  try {
    if (const auto uri = core.user_config().text("libvirt.uri"); uri != "auto") uris.insert(uri);
  } catch (const Error& error) {
    log::warn("manager", "the configuration is not in order: {}", error.what());  // the next command says so, too
  }
  return uris;
}

void find_machines(Core& core, const std::string& uri, std::vector<OrphanMachine>& found) {
  for (const auto& info : core.hypervisor(uri, Deadline::after(call_limit))->list(Deadline::after(call_limit)))
    if (!info.id.empty() && (uri == "auto" || info.home == machine_home(core.paths())))
      found.push_back({uri, info.domain});
}

}  // namespace

std::shared_ptr<LiveSandbox> connect_running(Core& core, const SandboxRecord& record, Deadline deadline,
                                             const std::function<void()>& resume) {
  auto control = guest::Control::connect(core.paths().sockets(record.name.str()) / socket_files::agent, deadline);
  if (resume) resume();
  control->hello(deadline);
  auto live = std::make_shared<LiveSandbox>(endpoint_of(core, record));
  wire(core, *live, record);
  adopt_control(core, record.name, *live, std::move(control), redial_pause);
  core.set_live(record.name, live);
  return live;
}

namespace {

void remove_ended(Core& core, const SandboxName& name) {
  Ending ending(nullptr);
  std::vector<std::string> rescued;
  if (remove_stopped(core, ending, core.store().get(name), rescued))
    log::info("manager", "{} is removed (persist: false); its uncommitted work: {}", name.str(),
              rescued.empty() ? "none" : fmt::format("{}", fmt::join(rescued, ", ")));
}

}  // namespace

void machine_ended(Core& core, const std::string& domain, const std::string& reason, const std::string& message,
                   const std::optional<ProcessRecord>& share) {
  for (const auto& record : core.store().list().records) {
    if (record.domain != domain) continue;
    if (share && record.virtiofsd == share && ended_with_its_machine(core, record)) return;
    const auto hold = core.try_hold(record.name);
    if (!hold) {
      // An operation is on it: it sees the end itself, or leaves it to us.
      core.janitor().post_later(redial_pause, "end of " + domain,
                                [=, &core] { machine_ended(core, domain, reason, message, share); });
      return;
    }
    const auto current = core.store().find(record.name);
    if (!current || (current->state != SandboxState::running && current->state != SandboxState::paused)) return;
    // An old event: it was started again, with a share of its own.
    if (share ? current->virtiofsd != share : machine_runs(core, *current)) return;
    const bool orderly = reason == "guest-shutdown";
    const auto after = core.apply(record.name, orderly ? SandboxEvent::ended : SandboxEvent::crashed, reason, message);
    tear_down(core, record.name, Shutdown::forced, milliseconds(0), Deadline::after(teardown_limit));
    // A run ends its own, and what crashed is for a person to see.
    if (orderly && !after.persist && !after.throw_away) remove_ended(core, record.name);
    return;
  }
}

void machine_paused(Core& core, const std::string& domain) {
  for (const auto& record : core.store().list().records) {
    if (record.domain != domain) continue;
    const auto hold = core.try_hold(record.name);
    if (!hold)  // an operation is on it, and stopped them itself most likely
      return core.janitor().post_later(redial_pause, "pause of " + domain,
                                       [&core, domain] { machine_paused(core, domain); });
    const auto current = core.store().find(record.name);
    const auto live = core.live(record.name);
    if (!current || current->state != SandboxState::running || !live) return;
    if (machine_state(core, *current) != DomainState::paused) return;
    live->expect_silence(true);
    core.leave_guest(record.name);
    try {
      match_pause(core, *current);
    } catch (const Error& error) {  // on a full disk, which may be why it stopped: until then `as_seen` says so
      log::warn("manager", "{} is paused: {}", record.name.str(), error.what());
      core.janitor().post_later(full_disk_pause, "pause of " + domain,
                                [&core, domain] { machine_paused(core, domain); });
    }
    return;
  }
}

namespace {

/// Nobody told of what happened while the driver was away: each of its machines is looked at. And once more: of what
/// ends before a daemon that came back has found it, it tells nothing either.
void look_again(Core& core, const std::string& uri) {
  for (const auto& record : core.store().list().records) {
    if (record.libvirt_uri != uri) continue;
    const auto& domain = record.domain;
    core.janitor().post("end of " + domain, [&core, domain] {
      machine_ended(core, domain, "crash", "the machine ended while libvirt's daemon was away");
    });
    core.janitor().post("pause of " + domain, [&core, domain] { machine_paused(core, domain); });
  }
}

}  // namespace

void watch_events(Core& core, Hypervisor& hypervisor) {
  hypervisor.on_event([&core, uri = hypervisor.uri()](const Hypervisor::Event& event) {
    using Kind = Hypervisor::Event::Kind;
    if (event.kind == Kind::reconnected) {
      const auto look = [&core, uri] { look_again(core, uri); };
      core.janitor().post("look at " + uri, look);
      core.janitor().post_later(found_again_pause, "look at " + uri, look);
    }
    if (event.kind == Kind::paused)
      core.janitor().post("pause of " + event.domain, [&core, domain = event.domain] { machine_paused(core, domain); });
    if (event.kind != Kind::stopped && event.kind != Kind::crashed && event.kind != Kind::destroyed) return;
    core.janitor().post("end of " + event.domain, [&core, domain = event.domain, kind = event.kind] {
      // What we ended ourselves is not running in its record any more.
      machine_ended(core, domain, kind == Kind::stopped ? "guest-shutdown" : "crash",
                    kind == Kind::stopped     ? "the guest powered off"
                    : kind == Kind::destroyed ? "another program ended the machine"
                                              : "the machine ended unexpectedly");
    });
  });
}

void set_guest_clock(guest::Control& control, Deadline deadline) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  control.set_time(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count(), deadline);
}

void dial_data(Core& core, const SandboxName& name) {
  core.janitor().post("dial " + name.str(), [&core, name] { redial_data(core, name); });
}

void dial_control(Core& core, const SandboxName& name) {
  core.janitor().post("dial control of " + name.str(), [&core, name] {
    const auto live = core.live(name);
    if (!live || live->silent()) return;
    try {
      live->session(Session::control, Deadline::after(let_in_limit));
    } catch (const Error& error) {
      log::info("ssh", "{}: the session for commands is not open: {}", name.str(), error.what());
    }
  });
}

std::shared_ptr<guest::Streams> command_session(Core& core, const SandboxName& name, LiveSandbox& live,
                                                Deadline deadline) {
  if (auto session = live.session_if_alive(Session::control)) return session;
  if (auto session = live.session_if_alive(Session::data)) {
    dial_control(core, name);
    return session;
  }
  return live.session(Session::control, deadline);
}

std::string machine_home(const Paths& paths) {
  constexpr std::size_t digits = 16;
  return sha256_hex(paths.state.string()).substr(0, digits);
}

std::vector<OrphanMachine> find_orphans(Core& core) {
  std::vector<OrphanMachine> found;
  for (const auto& uri : drivers_in_use(core, core.store().list())) try {
      find_machines(core, uri, found);
    } catch (const Error& error) {
      log::error("manager", "looking for machines at {}: {}", uri, error.what());
    }
  // Only now: whoever starts one has recorded it before.
  const auto listing = core.store().list();
  // A record that cannot be read, of a newer version perhaps, may be that of any of them.
  if (!listing.broken.empty()) return {};
  std::set<std::string> known;
  for (const auto& record : listing.records) known.insert(record.domain);
  known.insert(core.templates().machine());
  std::erase_if(found, [&known](const OrphanMachine& machine) { return known.contains(machine.domain); });
  return found;
}

void stop_orphan(Core& core, const OrphanMachine& machine) {
  log::warn("manager", "ending {}, a machine of ours without a record", machine.domain);
  core.hypervisor(machine.uri, Deadline::after(call_limit))->stop(machine.domain, Deadline::after(call_limit));
}

std::optional<SandboxRecord> settle_interrupted(Core& core, const SandboxRecord& record) {
  constexpr SandboxState on_the_way[] = {SandboxState::preparing, SandboxState::starting, SandboxState::stopping,
                                         SandboxState::destroying};
  if (std::find(std::begin(on_the_way), std::end(on_the_way), record.state) == std::end(on_the_way)) return record;
  log::warn("manager", "{} was left while it was {}", record.name.str(), to_string(record.state));
  reconcile_one(core, record);
  return core.store().find(record.name);
}

void reconcile(Core& core) {
  for (const auto& broken : core.store().list().broken)
    log::warn("manager", "{}: {}", broken.name, broken.error.what());
  for (const auto& machine : find_orphans(core)) try {
      stop_orphan(core, machine);
    } catch (const Error& error) {
      log::error("manager", "{}: {}", machine.domain, error.what());
    }
  const auto one = [&core](const SandboxRecord& record) {
    core.front().show(record);
    try {
      reconcile_one(core, record);
    } catch (const std::exception& problem) {
      log::error("manager", "{}: {}", record.name.str(), problem.what());
    }
  };
  const auto records = core.store().list().records;
  // Those that run side by side: guests that hang keep a manager from coming up no longer than one of them would.
  std::vector<std::future<void>> taken_over;
  for (const auto& record : records) {
    if (record.state == SandboxState::running || record.state == SandboxState::paused)
      taken_over.push_back(std::async(std::launch::async, one, std::cref(record)));
    else
      one(record);
  }
}

}  // namespace agentvm::manager
