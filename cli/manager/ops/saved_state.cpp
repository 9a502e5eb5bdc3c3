#include "cli/manager/ops/saved_state.hpp"

#include <cstdlib>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/manager/ops/boot.hpp"
#include "cli/manager/ops/machine_limits.hpp"
#include "cli/manager/ops/running.hpp"
#include "cli/manager/ops/state_files.hpp"
#include "cli/manager/ops/teardown.hpp"
#include "cli/manager/ops/template_maker.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/disk/overlay.hpp"
#include "vmm/limits.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds machine_limit{60'000};
constexpr milliseconds transfer_limit{10 * 60'000};  // some gigabytes on a slow disk
constexpr milliseconds connect_limit{60'000};
constexpr milliseconds hang_up_pause{300};  // the guest's agent sees that nobody is there any more
constexpr const char* description_file = "machine.json";
constexpr const char* schema = "agentvm.saved/1";
constexpr std::size_t description_limit_bytes = 64u << 10;

fs::path saved_folder(Core& core, const SandboxName& name) {
  return core.store().folder(name) / sandbox_files::saved;
}

fs::path unfinished_folder(Core& core, const SandboxName& name) {
  return saved_folder(core, name).string() + ".new";
}

MachineState state_in(Core& core, const SandboxName& name, const fs::path& folder) {
  return {folder / "device-state", folder / "memory", core.paths().sockets(name.str()) / "state.sock"};
}

/// What must be the same where it goes on. Our own version may be another one: the definition counts.
Json shape_of(Core& core, const SandboxRecord& record, const Image& image) {
  auto shape = template_shape(core, record, image).to_json();
  shape.erase("version");
  return shape;
}

Image image_of(Core& core, const SandboxRecord& record) {
  return get_image(core.paths().images(), record.image_digest);
}

/// The files are written and described before they are in their place.
void write_files(Core& core, const SandboxRecord& record, Hypervisor& hypervisor) {
  const auto place = saved_folder(core, record.name);
  const auto folder = unfinished_folder(core, record.name);
  remove_tree(folder);
  remove_tree(place);
  ensure_private_dir(folder);
  const auto state = state_in(core, record.name, folder);
  hypervisor.save_state(record.domain, state, Deadline::after(transfer_limit));
  const Json json{
      {"schema", schema}, {"shape", shape_of(core, record, image_of(core, record))}, {"files", measure_state(state)}};
  for (const auto& path : {state.devices, state.memory})
    if (::fsync(open_file(path, O_RDONLY).get()) < 0) throw_errno(path.string());
  write_file_atomic(folder / description_file, dump_json(json));
  check_errno(::rename(folder.c_str(), place.c_str()), "keeping the saved memory");
  sync_dir(core.store().folder(record.name));
}

/// A machine whose state could not be written goes on as it was.
void go_on(Core& core, const SandboxRecord& record, Hypervisor& hypervisor) {
  try {
    connect_running(core, record, Deadline::after(connect_limit),
                    [&] { hypervisor.resume(record.domain, Deadline::after(machine_limit)); });
    dial_data(core, record.name);
  } catch (const Error& error) {
    log::error("suspend", "{}: it does not go on: {}", record.name.str(), error.what());
  }
}

/// Of the guest's memory, what is there: about as much as a file of it takes.
std::uint64_t memory_in_use(int pid) {
  constexpr std::string_view field = "RssShmem:";
  const auto status = read_file(fmt::format("/proc/{}/status", pid), 64u << 10);
  const auto at = status.find(field);
  return at == status.npos ? 0 : std::strtoull(status.c_str() + at + field.size(), nullptr, 10) * 1024;
}

void check_room(Core& core, const SandboxRecord& record, Hypervisor& hypervisor) {
  const auto pid = hypervisor.pid(record.domain, Deadline::after(machine_limit));
  const auto needed = ByteSize(pid ? memory_in_use(*pid) : record.memory.bytes());
  const auto room = ByteSize(disk_room(core.paths().state).bytes), kept = ByteSize(disk_reserve(core).bytes);
  if (room.bytes() < needed.bytes() + kept.bytes())
    throw Error(ErrorCode::host_lacks,
                fmt::format("saving '{}' takes {} of disk, and {} are left below {}, of which {} are kept free",
                            record.name.str(), needed.str(), room.str(), core.paths().state.string(), kept.str()),
                "agentvm suspend " + record.name.str());
}

/// Why the files cannot be gone on from; empty when they can.
std::string unfit(Core& core, const SandboxRecord& record, const Image& image, const MachineState& state) {
  const auto text = read_file_if_exists(saved_folder(core, record.name) / description_file, description_limit_bytes);
  if (!text) return "its saved memory is gone";
  const auto json = parse_json(*text, "the description of a saved machine");
  if (value_or<std::string>(json, "schema", "") != schema) return "it was saved by another version of agentvm";
  const auto now = shape_of(core, record, image), then = require<Json>(json, "shape");
  for (const auto& [part, value] : now.items())
    if (value_or<Json>(then, part, nullptr) != value) return fmt::format("its machine's {} is another one now", part);
  if (!state_is_as_measured(require<Json>(json, "files"), measure_state(state)))
    return "its saved memory is not as it was written";
  return "";
}

}  // namespace

void check_savable(Core& core, const SandboxRecord& record) {
  if (record.workspace != WorkspaceMode::disk)
    throw Error(ErrorCode::usage,
                fmt::format("'{}' shares its workspace with this host, and files that are open there cannot be saved",
                            record.name.str()),
                "agentvm suspend " + record.name.str() + ", or a sandbox started with --workspace disk");
  const auto hypervisor = core.hypervisor(record.libvirt_uri, Deadline::after(machine_limit));
  if (!hypervisor->capabilities().contains(HypervisorCapability::state))
    throw Error(
        ErrorCode::host_lacks,
        hypervisor->uri() + " cannot save machines here (QEMU up to 8.0 and from 9.0 can, with libvirt.uri: auto)",
        "agentvm suspend " + record.name.str());
  // Before a sandbox that was paused for it runs on.
  check_disk_reserve(core, "saving " + record.name.str());
}

SandboxRecord save_to_disk(Core& core, CallContext& call, const SandboxRecord& record) {
  const auto& name = record.name;
  const auto hypervisor = core.hypervisor(record.libvirt_uri, Deadline::after(machine_limit));
  check_room(core, record, *hypervisor);
  report(call.progress_function(), "save", "saving the memory of " + name.str());
  if (const auto live = core.live(name)) live->expect_silence(true);
  core.leave_guest(name);
  core.drop_live(name);
  try {
    system_clock().sleep(hang_up_pause);
    hypervisor->pause(record.domain, Deadline::after(machine_limit));
    write_files(core, record, *hypervisor);
  } catch (Error& error) {
    sweep_saved(core, record);
    go_on(core, record, *hypervisor);
    error.while_doing("saving " + name.str());
    throw;
  }
  const auto saved = core.apply(name, SandboxEvent::saved, "user", "", [](SandboxRecord& r) { r.saved = true; });
  tear_down(core, name, Shutdown::forced, milliseconds(0), Deadline::after(machine_limit));
  return core.store().get(saved.name);
}

SandboxRecord restore_from_disk(Core& core, CallContext& call, const SandboxRecord& record) {
  const auto& name = record.name;
  const auto image = image_of(core, record);
  const auto state = state_in(core, name, saved_folder(core, name));
  if (const auto why = unfit(core, record, image, state); !why.empty())
    throw Error(ErrorCode::host_lacks, fmt::format("'{}' cannot go on where it was saved: {}", name.str(), why),
                fmt::format("agentvm stop {0}, which keeps its disk; then agentvm start", name.str()));
  check_disk_reserve(core, "resuming " + name.str());
  core.apply(name, SandboxEvent::start, "user");
  try {
    continue_machine(core, call, core.store().get(name), image, state, [&] {
      // From here on its disk goes another way than the memory that was saved.
      sweep_saved(core, core.store().update(name, [](SandboxRecord& r) { r.saved = false; }));
    });
    return core.apply(name, SandboxEvent::ready, "user");
  } catch (Error& error) {
    const bool still_saved = core.store().get(name).saved;
    const auto reason = call.cancelled().stop_requested() ? "cancelled" : "start-failed";
    if (!still_saved) core.apply(name, SandboxEvent::failed, reason, error.what());
    tear_down(core, name, Shutdown::forced, milliseconds(0), Deadline::after(machine_limit));
    if (still_saved) core.apply(name, SandboxEvent::saved, reason, error.what());
    error.while_doing("resuming " + name.str());
    if (error.hint().empty()) error.with_hint("agentvm logs " + name.str() + " --manager");
    throw;
  }
}

void sweep_saved(Core& core, const SandboxRecord& record) {
  remove_tree(unfinished_folder(core, record.name));
  if (!record.saved) remove_tree(saved_folder(core, record.name));
}

std::uint64_t saved_bytes(Core& core, const SandboxName& name) {
  std::uint64_t bytes = 0;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(saved_folder(core, name), absent))
    bytes += allocated_bytes(entry.path());
  return bytes;
}

}  // namespace agentvm::manager
