#include "cli/manager/ops/status.hpp"

#include "cli/manager/ops/agent_session.hpp"
#include "cli/manager/ops/egress_ops.hpp"
#include "cli/manager/ops/machine_limits.hpp"
#include "cli/manager/ops/nested_check.hpp"
#include "cli/manager/ops/saved_state.hpp"
#include "cli/manager/ops/worktrees.hpp"
#include "vmm/base/text.hpp"
#include "vmm/disk/overlay.hpp"

namespace agentvm::manager {
namespace {

bool runs(const SandboxRecord& record) {
  return record.state == SandboxState::running || record.state == SandboxState::paused;
}

std::int64_t uptime_seconds(const SandboxRecord& record) {
  return runs(record) && record.boot
             ? std::max<std::int64_t>(0, system_clock().unix_seconds() - record.boot->started_at)
             : 0;
}

Json sync_status(Core& core, const SandboxRecord& record) {
  Json sync{{"mode", record.sync_mode}, {"last_time", nullptr}, {"last_result", nullptr}};
  sync.update(core.syncs().status(record.name));
  if (record.last_sync) {
    sync["last_time"] = format_time(record.last_sync->time);
    sync["last_result"] = record.last_sync->result;
  }
  return sync;
}

void add_details(Core& core, const SandboxRecord& record, Json& status) {
  const auto folder = core.store().folder(record.name);
  status["id"] = record.id;
  status["folder"] = folder.string();
  status["created"] = format_time(record.created);
  status["domain"] = record.domain;
  status["libvirt_uri"] = record.libvirt_uri;
  status["agent_variables"] = record.agent_variables;
  status["agent_credentials"] = record.agent_credentials;
  status["image"] = {{"name", record.image}, {"layers", record.image_layers}, {"digest", record.image_digest}};
  status["known_hosts"] = (folder / sandbox_files::known_hosts).string();
  status["identity_file"] = (folder / sandbox_files::client_key).string();
  status["egress"]["presets"] = record.egress_presets;
  status["egress"]["allow"] = record.egress_allow;
  status["egress"]["deny"] = record.egress_deny;
  status["egress"]["grants"] = record.egress_grants;
  status["egress"]["secrets"] = core.secrets().status(record);
  status["egress"]["decoys"] = decoys_json(record.decoys);
  status["egress"]["own"] = {{"allow", record.egress_own_allow}, {"deny", record.egress_own_deny}};
  status["warnings"] = record.warnings;
}

/// Empty when the guest's agent answers. It is asked: one whose guest hangs as a whole has closed nothing.
std::string why_silent(const std::shared_ptr<guest::Control>& control, Deadline deadline) {
  if (!control) return "it never answered";
  try {
    if (control->alive() && !deadline.expired()) control->time(deadline);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::timed_out) return "it was asked, and said nothing in time";
  }
  return control->alive() ? "" : control->lost_reason();
}

/// Null unless a machine runs whose vCPUs do.
Json guest_agent_status(Core& core, const SandboxRecord& record, Deadline deadline) {
  const auto live = record.state == SandboxState::running ? core.live(record.name) : nullptr;
  if (!live) return nullptr;
  const auto why = why_silent(live->control(), deadline);
  return {{"answers", why.empty()}, {"reason", clean_guest_text(why, Newlines::escape, 300)}};
}

/// Null where the guest has told nothing of it.
Json nested_machines(Core& core, const SandboxRecord& record) {
  const auto told = core.nested().state(record.name);
  if (!told) return nullptr;
  const auto limit = [](std::uint64_t value) { return value == 0 ? Json(nullptr) : Json(value); };
  return {{"memory_bytes", limit(told->memory_bytes)},
          {"vcpus", limit(told->cpus)},
          {"running", told->machines},
          {"ended_for_memory", told->ended}};
}

}  // namespace

Json sandbox_status(Core& core, const SandboxRecord& stored, Detail detail, Deadline asking) {
  const auto record = core.as_seen(stored);
  Json status{{"schema", "agentvm.status/1"},
              {"name", record.name.str()},
              {"state", to_string(record.state)},
              {"reason", record.reason},
              {"message", record.message},
              {"frozen", record.frozen},
              {"project", record.project.string()},
              {"branch", clean_guest_text(record.branch)},
              {"backend", "libvirt"},
              {"accelerator", record.accelerator},
              {"accelerator_reason", record.accelerator_reason},
              {"uptime_seconds", uptime_seconds(record)},
              {"memory_bytes", record.memory.bytes()},
              {"vcpus", record.vcpus},
              {"disk_bytes", allocated_bytes(core.store().folder(record.name) / sandbox_files::disk)},
              {"limits", limits_status(core, record)},
              {"nested", record.nested},
              {"nested_l2", nested_verdict(core, record)},
              {"nested_machines", nested_machines(core, record)},
              {"warm", record.warm},
              {"warm_reason", record.warm_reason},
              {"saved_bytes", record.saved ? Json(saved_bytes(core, record.name)) : Json()},
              {"network", to_string(record.network)},
              {"egress", egress_status(core, record)},
              {"workspace_mode", to_string(record.workspace)},
              {"ssh", nullptr},
              {"guest_agent", guest_agent_status(core, record, asking)},
              {"agent", agent_status(core, record)},
              {"throw_away", record.throw_away},
              {"autostart", record.autostart},
              {"ports", core.front().ports(record.name)},
              {"worktrees", worktree_status(core, record)},
              {"unsaved", record.unsaved},
              {"sync", sync_status(core, record)}};
  if (runs(record)) status["ssh"] = {{"host", "127.0.0.1"}, {"port", record.ssh_port}, {"user", "agent"}};
  if (detail == Detail::verbose) add_details(core, record, status);
  return status;
}

Json all_status(Core& core, Detail detail) {
  Json result{{"schema", "agentvm.status/1"}, {"sandboxes", Json::array()}, {"broken", Json::array()}};
  const auto listing = core.store().list();
  const auto asking = Deadline::after(guest_answer_limit);
  for (const auto& record : listing.records)
    result["sandboxes"].push_back(sandbox_status(core, record, detail, asking));
  for (const auto& broken : listing.broken)
    result["broken"].push_back({{"name", broken.name}, {"error", broken.error.what()}});
  return result;
}

Json list_ports(Core& core, const SandboxRecord& record) {
  core.front().open();  // what had its port may have gone
  const auto problem = core.front().problem();
  return {{"schema", "agentvm.ports/1"},
          {"name", record.name.str()},
          {"ports", core.front().ports(record.name)},
          {"url", problem.empty() ? Json(core.front().url(record.name)) : Json(nullptr)},
          {"problem", problem}};
}

Json list_sandboxes(Core& core, const std::string& state) {
  if (!state.empty()) {
    try {
      sandbox_state_from(state);
    } catch (const Error&) {
      std::string names;
      for (const auto each : all_states()) names += (names.empty() ? "" : ", ") + std::string(to_string(each));
      throw Error(ErrorCode::usage, "--state: '" + state + "' is not one of " + names);
    }
  }
  Json result{{"schema", "agentvm.list/1"}, {"sandboxes", Json::array()}, {"broken", Json::array()}};
  const auto listing = core.store().list();
  for (const auto& record : listing.records) {
    if (!state.empty() && to_string(record.state) != state) continue;
    result["sandboxes"].push_back({{"name", record.name.str()},
                                   {"state", to_string(record.state)},
                                   {"reason", record.reason},
                                   {"frozen", record.frozen},
                                   {"backend", "libvirt"},
                                   {"uptime_seconds", uptime_seconds(record)},
                                   {"project", record.project.string()},
                                   {"agent", agent_status(core, record)},
                                   {"egress_waiting", waiting_names(core, record)},
                                   {"pending_commits", core.syncs().status(record.name)["pending_commits"]}});
  }
  for (const auto& broken : listing.broken)
    result["broken"].push_back({{"name", broken.name}, {"error", broken.error.what()}});
  return result;
}

}  // namespace agentvm::manager
