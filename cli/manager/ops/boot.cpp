#include "cli/manager/ops/boot.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/manager/ops/agent_layers.hpp"
#include "cli/manager/ops/guest_settings.hpp"
#include "cli/manager/ops/hang_watch.hpp"
#include "cli/manager/ops/machine_limits.hpp"
#include "cli/manager/ops/running.hpp"
#include "cli/manager/ops/teardown.hpp"
#include "cli/manager/ops/template_store.hpp"
#include "vmm/accelerator/accelerator.hpp"
#include "vmm/base/log.hpp"
#include "vmm/disk/overlay.hpp"
#include "vmm/disk/sparse_copy.hpp"
#include "vmm/libvirt/libvirt_hypervisor.hpp"
#include "vmm/virtiofs/virtiofsd.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds libvirt_limit{
    60'000};  // the first start after an installation probes QEMU: 4-5 s seen under emulation
constexpr milliseconds trial_limit{120'000};
constexpr milliseconds machine_limit{60'000};
constexpr milliseconds load_limit{10 * 60'000};  // some gigabytes from a slow disk
constexpr int port_attempts = 5;
constexpr int hang_attempts = 3;
constexpr const char* workspace_tag = "workspace";

/// A port that is free now. Somebody may take it before QEMU binds it: the caller tries again.
std::uint16_t free_port() {
  const UniqueFd fd(check_errno(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  check_errno(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), "bind");
  check_errno(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  return ntohs(address.sin_port);
}

std::string new_generation_id() {
  return new_uuid();
}

AcceleratorVerdict decide(Core& core, AcceleratorChoice choice, const Image& image) {
  const auto platform = find_machine_platform();
  ensure_private_dir(core.paths().host_facts());
  return decide_accelerator(choice, TrialImage{image.kernel, image.initrd}, platform,
                            core.paths().host_facts() / "accelerator.json", host_accelerator_probes(platform),
                            Deadline::after(trial_limit));
}

void start_share(Core& core, const SandboxRecord& record) {
  VirtiofsSpec spec;
  spec.folder = core.store().folder(record.name) / sandbox_files::workspace;
  spec.socket = core.paths().sockets(record.name.str()) / socket_files::virtiofs;
  spec.log = core.store().folder(record.name) / sandbox_files::virtiofsd_log;
  spec.map = host_id_map();
  auto daemon = start_virtiofsd(spec, Deadline::after(machine_limit));
  core.store().update(record.name, [&](SandboxRecord& r) {
    r.virtiofsd = ProcessRecord{daemon.identity().pid, daemon.identity().start_ticks};
  });
  daemon.release();  // from here on the record knows it, and teardown ends it
}

/// Defines and starts the machine, paused. Another program may take the port between our choice and QEMU's bind.
SandboxRecord start_machine(Core& core, SandboxRecord record, const Image& image, Hypervisor& hypervisor,
                            MachineSpec::Begin begin) {
  const auto folder = core.store().folder(record.name);
  for (int attempt = 1;; ++attempt) {
    record = core.store().update(record.name, [&](SandboxRecord& r) {
      r.ssh_port = free_port();
      r.boot = BootRecord{system_clock().unix_seconds(), read_host_facts().boot_id};
    });
    auto spec = machine_spec(core, record, folder, image);
    spec.begin = begin;
    if (begin == MachineSpec::Begin::state) spec.shares.clear();  // plugged once it has its state
    write_file_atomic(folder / sandbox_files::domain_xml, domain_xml(spec, find_machine_platform()));
    try {
      hypervisor.start(spec, Hypervisor::Start::paused, Deadline::after(machine_limit));
      return record;
    } catch (const Error& error) {
      const bool port_taken = std::string_view(error.what()).find("hostfwd") != std::string_view::npos ||
                              std::string_view(error.what()).find("forwarding rule") != std::string_view::npos;
      if (!port_taken || attempt == port_attempts) throw;
      log::info("start", "{}: port {} was taken meanwhile; trying another", record.name.str(), record.ssh_port);
    }
  }
}

/// A machine that died says why in its log sooner than a probe times out.
void explain_dead_machine(Core& core, const SandboxRecord& record, Error& error) {
  try {
    const auto info = core.hypervisor(record.libvirt_uri, Deadline::after(libvirt_limit))
                          ->find(record.domain, Deadline::after(libvirt_limit));
    if (info && info->state != DomainState::shut_off) return;
    error.while_doing("the machine ended while it was starting");
  } catch (const Error&) {
  }
}

/// The sandbox's own copies of the template's disk, and of its state in the machine that waits for it; then its share.
void copy_disk(Core& core, const SandboxRecord& record, const MachineTemplate& from) {
  const auto disk = core.store().folder(record.name) / sandbox_files::disk;
  ::unlink(disk.c_str());
  copy_sparse_file(from.disk(), disk, Deadline::after(machine_limit));
}

void load_template(Core& core, const SandboxRecord& record, Hypervisor& hypervisor, const MachineTemplate& from,
                   Timeline& timeline) {
  const auto sockets = core.paths().sockets(record.name.str());
  hypervisor.load_state(record.domain, {from.devices(), from.memory(), sockets / "state.sock"},
                        Deadline::after(machine_limit));
  timeline.mark("template-state");
  if (!TemplateStore(core.templates_folder()).is_still(from))
    throw Error(ErrorCode::operation_failed, "the template was removed while it was copied");
  if (record.workspace == WorkspaceMode::virtiofs)
    hypervisor.plug(record.domain, {workspace_tag, sockets / socket_files::virtiofs}, Deadline::after(machine_limit));
  timeline.mark("plug");
}

guest::Identity new_identity(Core& core, const SandboxRecord& record, const Image& image, const MachineTemplate* from) {
  auto identity = guest_identity(core, record, image);
  if (!from) return identity;
  identity.entropy.resize(guest::identity_entropy_bytes);
  if (::getrandom(identity.entropy.data(), identity.entropy.size(), 0) != static_cast<ssize_t>(identity.entropy.size()))
    throw_errno("random bytes");
  return identity;
}

/// Sockets of its own, where nothing of an earlier machine is left.
void clear_sockets(Core& core, const SandboxRecord& record) {
  const auto sockets = core.paths().sockets(record.name.str());
  core.serial().remove(record.name.str());  // what an earlier machine said is not this one's
  remove_tree(sockets);
  ensure_private_dir(sockets);
}

/// Slower machines get more time: emulation is 5 to 20 times slower, and several guests may share few cores. KVM may be
/// a guest's own, within an emulator; a machine that hangs is noticed sooner.
milliseconds patience_with(const SandboxRecord& record) {
  return record.accelerator == "kvm" ? milliseconds(120'000) : milliseconds(240'000);
}

/// Each costs an emulated guest most of a second: who waits does so for the one with the way out, and the other one
/// comes after it.
void open_sessions(Core& core, const SandboxName& name, LiveSandbox& live, Deadline deadline) {
  live.session(Session::data, deadline);
  dial_control(core, name);
}

/// Share and machine, until every readiness step has passed. `started`: the machine has been. `from`: it goes on from
/// there; null: it boots.
void boot_once(Core& core, CallContext& call, SandboxRecord record, const Image& image, const MachineTemplate* from,
               Hypervisor& hypervisor, Timeline& timeline, bool& started) {
  const auto sockets = core.paths().sockets(record.name.str());
  clear_sockets(core, record);
  report(call.progress_function(), "machine",
         fmt::format("starting the machine ({}, {} vCPU{}, {}{})", record.memory.str(), record.vcpus,
                     record.vcpus == 1 ? "" : "s", record.accelerator, from ? ", from a template" : ""));
  if (from) {
    copy_disk(core, record, *from);
    timeline.mark("template-disk");
  }
  if (record.workspace == WorkspaceMode::virtiofs) start_share(core, record);
  timeline.mark("share");
  record = start_machine(core, record, image, hypervisor, from ? MachineSpec::Begin::state : MachineSpec::Begin::boot);
  started = true;
  record = limit_machine(core, record, hypervisor);
  timeline.mark("machine");
  if (from) load_template(core, record, hypervisor, *from, timeline);

  const auto patience = patience_with(record);
  const auto hint = "agentvm logs " + record.name.str() + " --boot";
  const auto& name = record.name;
  std::shared_ptr<LiveSandbox> live;
  const std::vector<ReadinessStep> steps = {
      {"the guest's kernel and agent answer",
       [&](Deadline deadline) {
         core.serial().add(name.str(), sockets / socket_files::serial, core.store().folder(name));
         live = connect_running(core, record, deadline, [&] { hypervisor.resume(record.domain, deadline); });
         if (from && live->control()->hello(deadline).stage != guest::Hello::Stage::waiting)
           throw Error(ErrorCode::operation_failed, "the machine is not where its template was");
       },
       hint, patience},
      {"the guest has its identity",
       [&](Deadline deadline) { live->control()->identify(new_identity(core, record, image, from), deadline); }, hint,
       patience},
      {"the guest's sshd listens", [&](Deadline deadline) { live->control()->wait_until("ssh", deadline); }, hint,
       patience},
      {"ssh lets us in", [&](Deadline deadline) { open_sessions(core, name, *live, deadline); }, hint, patience},
  };
  wait_until_ready(steps, call.progress_function(), [&](const std::string& what) {
    timeline.mark(what);
    call.check_cancelled();
  });
  if (record.workspace == WorkspaceMode::virtiofs)
    wait_until_ready(
        {{"/workspace is mounted", [&](Deadline deadline) { live->control()->wait_until("workspace", deadline); },
          "agentvm logs " + name.str(), patience}},
        call.progress_function(), [&](const std::string& what) { timeline.mark(what); });
}

}  // namespace

MachineSpec machine_spec(const Core& core, const SandboxRecord& record, const fs::path& folder, const Image& image) {
  const auto sockets = core.paths().sockets(record.name.str());
  MachineSpec spec;
  spec.domain = record.domain;
  spec.id = record.id;
  spec.sandbox = record.name.str();
  spec.home = machine_home(core.paths());
  spec.memory = record.memory;
  spec.vcpus = record.vcpus;
  spec.accelerator = record.accelerator == "kvm" ? Accelerator::kvm : Accelerator::tcg;
  spec.nested = record.nested;
  spec.kernel = image.kernel;
  spec.initrd = image.initrd;
  // quiet: every line on an emulated serial port costs; panic: a guest that cannot go on ends instead of hanging;
  // no_timer_check: on a busy host an emulated timer's first ticks come late and Linux would panic over them.
  spec.cmdline = "console=ttyS0 quiet loglevel=4 panic=5 no_timer_check net.ifnames=0";
  spec.disks.push_back({.path = folder / sandbox_files::disk,
                        .format = DiskFormat::qcow2,
                        .backing = image.root,
                        .backing_format = DiskFormat::raw,
                        .serial = "agentvm-root"});
  if (!record.layer.empty())
    spec.disks.push_back({.path = core.paths().layers() / record.layer / layer_file,
                          .format = DiskFormat::raw,
                          .read_only = true,
                          .serial = guest::layer_serial(record.layer)});
  if (record.workspace == WorkspaceMode::virtiofs)
    spec.shares.push_back({workspace_tag, sockets / socket_files::virtiofs});
  spec.serial_socket = sockets / socket_files::serial;
  spec.agent_socket = sockets / socket_files::agent;
  spec.network = record.network;
  spec.ssh_port = record.ssh_port;
  spec.generation_id = new_generation_id();
  return spec;
}

void choose_accelerator(Core& core, CallContext& call, SandboxRecord& record, const Image& image) {
  const auto choice = parse_accelerator_choice(to_string(record.accelerator_wish));
  const auto verdict = decide(core, choice, image);
  const bool kvm = verdict.accelerator == Accelerator::kvm;
  if (!kvm && choice == AcceleratorChoice::automatic)
    call.warning("no usable KVM, the guest is emulated (slower): " + verdict.reason);
  record.accelerator = kvm ? "kvm" : "tcg";
  record.accelerator_reason = kvm ? "" : verdict.reason;
  // QEMU's emulation of several CPUs loses one now and then (see HangWatch), also long after the boot.
  if (!kvm && !record.vcpus_asked) record.vcpus = 1;
  record.nested_vcpus = std::min(record.nested_vcpus, record.vcpus);
}

Accelerator usable_accelerator(Core& core, const Image& image) {
  return decide(core, AcceleratorChoice::automatic, image).accelerator;
}

void wait_until_ready(const std::vector<ReadinessStep>& steps, const Progress& progress,
                      const std::function<void(const std::string&)>& passed) {
  for (const auto& step : steps) {
    report(progress, "ready", "waiting: " + step.what);
    try {
      step.probe(Deadline::after(step.limit));
    } catch (Error& error) {
      error.while_doing(fmt::format("waiting until {}", step.what));
      if (error.hint().empty()) error.with_hint(step.hint);
      throw;
    }
    passed(step.what);
  }
}

namespace {

/// What the machine can go on from; nothing and the reason in `why_not`.
std::optional<MachineTemplate> fitting_template(Core& core, const SandboxRecord& record, const Image& image,
                                                RootDisk disk, Hypervisor& hypervisor, std::string& why_not) {
  if (disk == RootDisk::kept)
    why_not = "its disk has been run before";
  else if (!record.warm_wish)
    why_not = "warm starts are off (warm: false)";
  else if (!hypervisor.capabilities().contains(HypervisorCapability::state))
    why_not = hypervisor.uri() + " cannot restore machines";
  else if (image.sealed.empty())
    why_not = "the image does not say what it was built of";
  else
    return TemplateStore(core.templates_folder()).find(template_shape(core, record, image), why_not);
  return std::nullopt;
}

void note_start(Core& core, const SandboxRecord& record, const std::string& why_cold) {
  core.store().update(record.name, [&](SandboxRecord& r) {
    r.warm = why_cold.empty();
    r.warm_reason = why_cold;
  });
}

/// Whether the machine goes on from the template. If not, nothing of the attempt is left but what `note_start` told,
/// and a fresh disk.
bool boot_from(Core& core, CallContext& call, const SandboxRecord& record, const Image& image,
               const MachineTemplate& from, const std::shared_ptr<Hypervisor>& hypervisor, Timeline& timeline) {
  const TemplateStore store(core.templates_folder());
  HangWatch hang(core, record, hypervisor);
  bool started = false;
  std::string problem;
  try {
    boot_once(core, call, record, image, &from, *hypervisor, timeline, started);
  } catch (const Error& error) {
    if (call.cancelled().stop_requested()) throw;
    problem = error.what();
  }
  if (hang.end() && problem.empty()) problem = "its CPUs hung";
  if (problem.empty()) {
    store.note_use(from);
    note_start(core, record, "");
    return true;
  }
  const auto why = fmt::format("going on from the template {} failed: {}", from.key.substr(0, 12), problem);
  log::warn("start", "{}: {}", record.name.str(), why);
  report(call.progress_function(), "machine", "booting instead: " + why);
  if (started) store.remove(from.key);
  tear_down(core, record.name, Shutdown::forced, milliseconds(0), Deadline::after(machine_limit));
  const auto disk = core.store().folder(record.name) / sandbox_files::disk;
  ::unlink(disk.c_str());
  create_overlay(disk, image.root, DiskFormat::raw, ByteSize(), Deadline::after(machine_limit));
  note_start(core, record, why);
  timeline.mark("template-failed");
  return false;
}

void boot_cold(Core& core, CallContext& call, const SandboxRecord& record, const Image& image,
               const std::shared_ptr<Hypervisor>& hypervisor, Timeline& timeline) {
  for (int attempt = 1;; ++attempt) {
    call.check_cancelled();
    HangWatch hang(core, record, hypervisor);
    std::optional<Error> problem;
    bool started = false;
    try {
      boot_once(core, call, record, image, nullptr, *hypervisor, timeline, started);
    } catch (const Error& error) {
      problem = error;
    }
    const bool hung = hang.end();
    if (!hung && !problem) return;
    if (!hung || attempt == hang_attempts || call.cancelled().stop_requested()) {
      if (!problem) problem = Error(ErrorCode::operation_failed, "the machine's CPUs hung");
      if (started) explain_dead_machine(core, record, *problem);
      throw *problem;
    }
    call.warning("the emulated machine's CPUs hung while it booted: starting it once more");
    tear_down(core, record.name, Shutdown::forced, milliseconds(0), Deadline::after(machine_limit));
  }
}

}  // namespace

void boot_machine(Core& core, CallContext& call, const SandboxRecord& prepared, const Image& image, RootDisk disk,
                  Timeline& timeline) {
  auto record = prepared;
  choose_accelerator(core, call, record, image);
  timeline.mark("accelerator");
  const auto hypervisor = core.hypervisor(record.libvirt_uri, Deadline::after(libvirt_limit));
  record = core.store().update(record.name, [&](SandboxRecord& r) {
    r.accelerator = record.accelerator;
    r.accelerator_reason = record.accelerator_reason;
    r.vcpus = record.vcpus;
    r.nested_vcpus = record.nested_vcpus;
    r.libvirt_uri = hypervisor->uri();
    r.warm = false;
    r.saved = false;  // whatever was: its disk goes another way from here on
  });
  if (::geteuid() == 0 && hypervisor->uri() == "qemu:///system")
    call.warning(
        "the system's libvirtd leaves root's capabilities to root's emulators; libvirt.uri: auto takes them away");
  std::string why_not;
  const auto from = fitting_template(core, record, image, disk, *hypervisor, why_not);
  if (from && boot_from(core, call, record, image, *from, hypervisor, timeline)) return;
  if (!from) note_start(core, record, why_not);
  boot_cold(core, call, record, image, hypervisor, timeline);
}

void continue_machine(Core& core, CallContext& call, const SandboxRecord& saved, const Image& image,
                      const MachineState& state, const std::function<void()>& goes_on) {
  const auto& name = saved.name;
  const auto sockets = core.paths().sockets(name.str());
  const auto hypervisor = core.hypervisor(saved.libvirt_uri, Deadline::after(libvirt_limit));
  auto record = saved;
  {
    const std::stop_callback on_cancel(call.cancelled(), [&] {
      core.janitor().post("cancelled resume of " + name.str(), [hypervisor, domain = saved.domain] {
        hypervisor->stop(domain, Deadline::after(machine_limit));
      });
    });
    clear_sockets(core, saved);
    report(call.progress_function(), "machine", "loading the memory of " + name.str());
    record = start_machine(core, saved, image, *hypervisor, MachineSpec::Begin::state);
    record = limit_machine(core, record, *hypervisor);
    hypervisor->load_state(record.domain, state, Deadline::after(load_limit));
  }
  call.check_cancelled();
  goes_on();  // and nobody may end it any more before it is whole
  std::shared_ptr<LiveSandbox> live;
  const auto hint = "agentvm logs " + name.str() + " --manager";
  const auto patience = patience_with(record);
  wait_until_ready(
      {{"the guest's agent answers",
        [&](Deadline deadline) {
          core.serial().add(name.str(), sockets / socket_files::serial, core.store().folder(name));
          live = connect_running(core, record, deadline, [&] { hypervisor->resume(record.domain, deadline); });
          set_guest_clock(*live->control(), deadline);
        },
        hint, patience},
       {"ssh lets us in", [&](Deadline deadline) { open_sessions(core, name, *live, deadline); }, hint, patience}},
      call.progress_function(), [](const std::string&) {});
}

}  // namespace agentvm::manager
