#pragma once
// Everything between the manager and one machine that runs: opened when it starts and again by a manager that takes
// over; closed and recorded when the machine, its share or its connection ends by itself.

#include "cli/manager/ops/core.hpp"

namespace agentvm::manager {

/// Connects to the agent of a machine (started paused: `resume` is called once we listen, so that not a byte is lost;
/// or running: leave it empty) until it says hello, and registers the sandbox as live with its watches. Throws at the
/// deadline; then nothing is registered.
std::shared_ptr<LiveSandbox> connect_running(Core& core, const SandboxRecord& record, Deadline deadline,
                                             const std::function<void()>& resume);

/// `MachineSpec::home` of all machines of this state folder.
std::string machine_home(const Paths& paths);

/// A machine of ours that no record knows: left by a folder that was deleted by hand. A shared daemon runs those of
/// other users and state folders, too: they carry our element, but not our home, and are none of these.
struct OrphanMachine {
  std::string uri, domain;
};
/// None while a record cannot be read: its machine may be any of them. Drivers that do not answer are left out, and
/// logged.
std::vector<OrphanMachine> find_orphans(Core& core);
void stop_orphan(Core& core, const OrphanMachine& machine);

/// Compares every record with what really runs: takes over what runs, finishes what was half done, tells the truth
/// about the rest. Once, at the manager's start. Never throws for a single sandbox.
void reconcile(Core& core);

/// The same for one sandbox whose last operation could not record how it ended (a disk that was full): whoever holds it
/// and finds it on its way somewhere knows that nobody is at it. Nothing when it was on its way out.
std::optional<SandboxRecord> settle_interrupted(Core& core, const SandboxRecord& record);

/// The machine of this domain ended, or its share did: brings the record into line; a sandbox that does not persist is
/// removed when its guest powered itself off. Runs on the janitor.
/// `share`: the virtiofsd whose end it was; of a later run's it says nothing.
void machine_ended(Core& core, const std::string& domain, const std::string& reason, const std::string& message,
                   const std::optional<ProcessRecord>& share = std::nullopt);

/// The vCPUs of this domain were stopped, maybe by nobody here: as above.
void machine_paused(Core& core, const std::string& domain);

/// Gives the guest the time of this moment.
void set_guest_clock(guest::Control& control, Deadline deadline);

/// Soon, on the janitor: the session that egress and the proxy stand on, unless it is there.
void dial_data(Core& core, const SandboxName& name);

/// Soon, on the janitor: the session for commands and terminals, unless it is there. One try: who needs it dials, too.
void dial_control(Core& core, const SandboxName& name);

/// For a command without a terminal: the control session, or the data session while the other is dialled.
std::shared_ptr<guest::Streams> command_session(Core& core, const SandboxName& name, LiveSandbox& live,
                                                Deadline deadline);

/// Hangs both to the hypervisor's events. Idempotent.
void watch_events(Core& core, Hypervisor& hypervisor);

}  // namespace agentvm::manager
