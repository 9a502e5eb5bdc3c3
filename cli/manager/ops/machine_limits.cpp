#include "cli/manager/ops/machine_limits.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <sys/resource.h>

#include "cli/manager/ops/suspend.hpp"
#include "guest/control/serial_log.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/process.hpp"
#include "vmm/disk/overlay.hpp"
#include "vmm/virtiofs/tree_growth.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds scope_limit{10'000};
constexpr milliseconds count_limit{3'000};
constexpr milliseconds call_limit{10'000};
constexpr milliseconds config_age{5'000};  // how old what was read of the user's file may be
/// What QEMU and virtiofsd need besides the guest's memory; an emulator keeps up to 1 GiB of translated code
/// (accel/tcg/translate-all.c, DEFAULT_CODE_GEN_BUFFER_SIZE). What is read and written counts too, and is given back.
constexpr auto overhead = ByteSize::gibibytes(1), overhead_tcg = ByteSize::gibibytes(2);
constexpr std::uint64_t default_part = 20;
constexpr const char* disk_reason = "host-disk";
/// Inodes kept free, and the part of all beyond which that is not asked for.
constexpr std::uint64_t reserve_inodes = 20'000, inodes_part = 16;

/// Its own and that of the sandboxed worker.
std::vector<int> share_processes(const SandboxRecord& record) {
  if (!record.virtiofsd) return {};
  auto all = child_processes(record.virtiofsd->pid);
  all.push_back(record.virtiofsd->pid);
  return all;
}

/// 0: none that could be found.
int machine_process(Core& core, const SandboxRecord& record) {
  try {
    return core.hypervisor(record.libvirt_uri, Deadline::after(call_limit))
        ->pid(record.domain, Deadline::after(call_limit))
        .value_or(0);
  } catch (const Error&) {
    return 0;
  }
}

Json nice_of(int pid) {
  errno = 0;
  const int value = ::getpriority(PRIO_PROCESS, static_cast<id_t>(pid));
  return errno == 0 ? Json(value) : Json(nullptr);
}

Json oom_score_of(int pid) {
  try {
    const auto text = read_file_if_exists(fmt::format("/proc/{}/oom_score_adj", pid), 64);
    return text ? Json(std::atoi(text->c_str())) : Json(nullptr);
  } catch (const Error&) {
    return nullptr;
  }
}

/// The size that a guest sees: its disk is an overlay of the image's.
Json disk_size(Core& core, const SandboxRecord& record) {
  std::error_code absent;
  const auto size = fs::file_size(core.paths().images() / record.image_digest / "root.raw", absent);
  return record.image_digest.empty() || absent ? Json(nullptr) : Json(size);
}

/// How much each overlay took when it was first looked at in this run: older growth is nobody's fault now.
class OverlayGrowth {
 public:
  void note(const SandboxRecord& record, const fs::path& disk) {
    const auto started = record.boot ? record.boot->started_at : 0;
    auto& seen = seen_[record.id];
    if (seen.first != started) seen = {started, allocated_bytes(disk)};
  }
  std::uint64_t since(const SandboxRecord& record, const fs::path& disk) {
    note(record, disk);
    const auto now = allocated_bytes(disk), then = seen_[record.id].second;
    return now - std::min(now, then);
  }

 private:
  std::map<std::string, std::pair<std::int64_t, std::uint64_t>> seen_;
};

std::string blame(Core& core, Shortage shortage, const DiskRoom& room, const std::optional<DiskUse>& use) {
  const bool inodes = shortage == Shortage::inodes;
  const auto left =
      fmt::format("{} left on the host's disk below {}, less than {}",
                  inodes ? fmt::format("room for {} more files is", room.inodes) : ByteSize(room.bytes).str() + " are",
                  core.paths().state.string(), inodes ? "is kept free" : "limits.disk_reserve keeps free");
  if (!use) return left;
  const auto many = use->complete ? "" : "more than ";
  return fmt::format("it has put {}{} there since its start; {}", many,
                     inodes ? fmt::format("{} files", use->inodes) : ByteSize(use->bytes).str(), left);
}

void pause_for_disk(Core& core, const SandboxName& name, const std::string& message) {
  if (core.store().get(name).state == SandboxState::starting && end_start(core, name, message)) return;
  stop_vcpus(core, name, disk_reason, message);
}

DiskUse use_of(const SandboxRecord& record, const fs::path& folder, std::uint64_t overlay_bytes) {
  DiskUse use{.bytes = overlay_bytes};
  if (record.workspace != WorkspaceMode::virtiofs) return use;
  try {
    const auto growth = tree_growth(folder / sandbox_files::workspace, record.boot ? record.boot->started_at : 0,
                                    record.virtiofsd ? record.virtiofsd->pid : 0, count_limit);
    use.bytes += growth.bytes;
    use.inodes += growth.inodes;
    use.complete = growth.complete;
  } catch (const Error& error) {  // a disk so busy that nothing answers, or a sandbox that is being removed
    log::info("limits", "{}: {}", record.name.str(), error.what());
    use.complete = false;
  }
  return use;
}

}  // namespace

SandboxRecord limit_machine(Core& core, const SandboxRecord& record, Hypervisor& hypervisor) {
  int pid = 0;
  try {
    pid = hypervisor.pid(record.domain, Deadline::after(call_limit)).value_or(0);
    if (pid <= 0) return record;
    if (!yield_to_host(pid)) log::info("limits", "{}: its machine keeps its priority", record.name.str());
  } catch (const std::exception& problem) {  // another user's machine, of a daemon for many
    log::info("limits", "{}: its machine cannot be limited: {}", record.name.str(), problem.what());
    return record;
  }
  const ScopeLimits limits{
      .memory = ByteSize(record.memory.bytes() + (record.accelerator == "kvm" ? overhead : overhead_tcg).bytes())};
  // The time makes it new: a scope that has not gone yet would be in the way.
  const auto unit = fmt::format("agentvm-{}-{}", record.domain, record.boot ? record.boot->started_at : 0);
  const auto scope = enter_user_scope(unit, pid, share_processes(record), limits, Deadline::after(scope_limit));
  return core.store().update(record.name, [&](SandboxRecord& r) {
    r.scope = scope.unit;
    r.scope_reason = scope.why_not;
  });
}

Json limits_status(Core& core, const SandboxRecord& record) {
  const bool runs = record.state == SandboxState::running || record.state == SandboxState::paused;
  const int pid = runs ? machine_process(core, record) : 0;
  Json limits{{"memory_bytes", record.memory.bytes()},
              {"vcpus", record.vcpus},
              {"disk_bytes", disk_size(core, record)},
              {"nice", pid > 0 ? nice_of(pid) : Json(nullptr)},
              {"oom_score_adj", pid > 0 ? oom_score_of(pid) : Json(nullptr)},
              {"scope", nullptr},
              {"scope_reason", runs ? record.scope_reason : ""},
              {"connections", egress::Limits().connections_per_sandbox},
              {"console_bytes", 2 * guest::serial_file_limit_bytes},
              {"disk_reserve_bytes", nullptr}};
  if (runs && !record.scope.empty()) limits["scope"] = record.scope;
  try {
    limits["disk_reserve_bytes"] = disk_reserve(core).bytes;
  } catch (const Error& error) {  // the state folder is gone
    log::info("limits", "{}", error.what());
  }
  return limits;
}

DiskReserve disk_reserve(Core& core) {
  Config config;
  try {
    config = core.user_config();
  } catch (const Error& error) {  // the next command says so, too; meanwhile the disk is kept free as by default
    log::info("limits", "{}", error.what());
    config = resolve_config({});
  }
  const auto room = disk_room(core.paths().state);
  const auto& value = config.at("limits.disk_reserve");
  DiskReserve reserve{config.size("limits.disk_reserve").bytes(),
                      std::min(reserve_inodes, room.inodes_total / inodes_part)};
  if (value.origin.layer == ConfigLayer::default_value)
    reserve.bytes = std::min(reserve.bytes, room.bytes_total / default_part);
  return reserve;
}

bool must_stay_paused(Core& core, const SandboxRecord& record) {
  // Whoever else stopped it: with no room it would only fill the disk.
  return record.state == SandboxState::paused && record.reason != "user" &&
         shortage_of(disk_room(core.paths().state), disk_reserve(core)) != Shortage::none;
}

void check_disk_reserve(Core& core, const std::string& what) {
  const auto room = disk_room(core.paths().state);
  const auto shortage = shortage_of(room, disk_reserve(core));
  if (shortage != Shortage::none)
    throw Error(ErrorCode::host_lacks, fmt::format("{}: {}", what, blame(core, shortage, room, std::nullopt)),
                "agentvm image prune");
}

DiskGuard::Work disk_guard_work(Core& core) {
  const auto overlays = std::make_shared<OverlayGrowth>();  // of the guard's thread
  DiskGuard::Work work;
  work.running = [&core, overlays] {
    std::vector<SandboxName> names;
    if (!core.any_live()) return names;
    for (const auto& record : core.store().list().records) {
      const auto state = core.as_seen(record).state;
      // Before a machine is begun there is nothing that writes, and no time since when to count.
      if (state != SandboxState::running && !(state == SandboxState::starting && record.boot)) continue;
      overlays->note(record, core.store().folder(record.name) / sandbox_files::disk);
      names.push_back(record.name);
    }
    return names;
  };
  work.room = [&core] { return disk_room(core.paths().state); };
  work.reserve = [&core, read = SteadyTime(), reserve = DiskReserve()]() mutable {
    const auto now = std::chrono::steady_clock::now();
    if (now - read < config_age) return reserve;
    reserve = disk_reserve(core);
    read = now;
    return reserve;
  };
  work.use = [&core, overlays](const SandboxName& name) {
    const auto record = core.store().get(name);
    const auto folder = core.store().folder(name);
    return use_of(record, folder, overlays->since(record, folder / sandbox_files::disk));
  };
  work.pause = [&core](const SandboxName& name, Shortage shortage, const DiskRoom& room,
                       const std::optional<DiskUse>& use) {
    pause_for_disk(core, name, blame(core, shortage, room, use));
  };
  return work;
}

}  // namespace agentvm::manager
