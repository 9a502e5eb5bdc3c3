#include "cli/manager/ops/operations.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/agent_layers.hpp"
#include "cli/manager/ops/agent_session.hpp"
#include "cli/manager/ops/agent_updates.hpp"
#include "cli/manager/ops/artifact_op.hpp"
#include "cli/manager/ops/core.hpp"
#include "cli/manager/ops/disk_files.hpp"
#include "cli/manager/ops/doctor.hpp"
#include "cli/manager/ops/egress_ops.hpp"
#include "cli/manager/ops/image_ops.hpp"
#include "cli/manager/ops/pull.hpp"
#include "cli/manager/ops/recordings.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/run_op.hpp"
#include "cli/manager/ops/running.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "cli/manager/ops/start.hpp"
#include "cli/manager/ops/status.hpp"
#include "cli/manager/ops/stop_op.hpp"
#include "cli/manager/ops/suspend.hpp"
#include "cli/manager/ops/sync_op.hpp"
#include "cli/manager/ops/terminals.hpp"
#include "cli/manager/ops/trust.hpp"
#include "cli/manager/ops/wip_ops.hpp"
#include "cli/manager/ops/worktrees.hpp"
#include "guest/ssh/ssh_config.hpp"
#include "vmm/config.hpp"

namespace agentvm::manager {
namespace {

Json ssh_config(Core& core, const Json& params) {
  const auto [record, live] = running_sandbox(core, params);
  const auto folder = core.store().folder(record.name);
  guest::SshStanza stanza{.name = record.name.str(),
                          .port = record.ssh_port,
                          .identity_file = folder / sandbox_files::client_key,
                          .known_hosts_file = folder / sandbox_files::known_hosts};
  const auto text = guest::ssh_config_stanza(stanza);
  const auto file = folder / "ssh_config";
  write_file_atomic(file, text);
  return {{"schema", "agentvm.ssh-config/1"},
          {"name", record.name.str()},
          {"host_alias", guest::ssh_host_alias(record.name.str())},
          {"host", "127.0.0.1"},
          {"port", record.ssh_port},
          {"user", "agent"},
          {"config_file", file.string()},
          {"identity_file", stanza.identity_file.string()},
          {"known_hosts_file", stanza.known_hosts_file.string()},
          {"stanza", text}};
}

/// The files of the user's home that the guest would be lent: [path].
Json planned_credentials(Core& core, const Plan& plan, const ClientSetting& setting) {
  auto files = Json::array();
  const auto home = setting.environment.find("HOME");
  if (!plan.credentials_copy.value || plan.agent.value == no_agent || home == setting.environment.end()) return files;
  const auto agent = guest::find_agent(own_agents(core.paths()), plan.agent.value);
  for (const auto& path : agent.credentials)
    if (fs::exists(fs::path(home->second) / path)) files.push_back((fs::path(home->second) / path).string());
  return files;
}

/// The plan with its values as a list, in the order of the reference, for printing.
Json plan_json(Core& core, const Json& params) {
  const auto setting = read_client_setting(params);
  const bool of_run = params.contains("run");
  const auto [plan, run] =
      of_run ? plan_run(core, setting, params["run"]) : PlannedRun{plan_request(core, setting), nullptr};
  auto result = plan.to_json();
  result["run"] = run;
  auto values = Json::array();
  for (const auto& key : config_keys()) {
    std::string member(key.name);
    std::replace(member.begin(), member.end(), '.', '_');
    if (!result.contains(member)) continue;
    const auto& entry = result[member];
    values.push_back({{"name", key.name},
                      {"value", entry["value"]},
                      {"text", config_value_text(key, entry["value"])},
                      {"origin", entry["origin"]}});
  }
  result["values"] = values;
  result["credentials"] = planned_credentials(core, plan, setting);
  result["egress"] = egress_plan(core, plan, core.store().find(plan.name.value));
  return result;
}

ConfigInput config_input(Core& core, const ClientSetting& setting) {
  ConfigInput input;
  input.environment = setting.environment;
  input.user = read_config_file(core.paths().config_file);
  try {
    const auto root = find_project(setting.path).root;
    input.project = read_config_file(root / "agentvm.yaml");
    input.trust = core.trust().lookup(root);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;  // outside a repository there is no project file
  }
  return input;
}

Json validate_config(Core& core, const Json& params) {
  auto input = config_input(core, read_client_setting(params));
  if (const auto file = optional_text(params, "file")) {
    // A project's file may say less than one's own: its name tells which it is meant to be.
    const bool of_project = fs::path(*file).filename() == "agentvm.yaml";
    auto& place = of_project ? input.project : input.user;
    input.project.reset();
    input.user.reset();
    place = read_config_file(*file);
    if (!place) throw Error(ErrorCode::not_found, *file + ": no such file");
    if (of_project) input.trust = core.trust().lookup(fs::path(*file).parent_path());
  }
  const auto config = resolve_config(input);
  return {{"schema", "agentvm.config-validate/1"}, {"valid", true}, {"warnings", config.warnings()}};
}

Json logs(Core& core, const Json& params) {
  const auto record = core.resolve(params);
  return {{"schema", "agentvm.logs/1"},
          {"name", record.name.str()},
          {"path", (core.store().folder(record.name) / sandbox_files::serial_log).string()}};
}

std::string lane_key(Core& core, const Json& params) {
  if (const auto name = optional_text(params, "name")) return *name;
  try {
    // Requests without a name belong to the project's sandbox, also while it does not exist yet.
    const auto setting = read_client_setting(params);
    if (const auto asked = setting.flags.find("name"); asked != setting.flags.end()) return asked->second;
    const auto root = find_project(setting.path).root;
    const auto mine = core.store().meant_by_project(root);
    return mine.size() == 1 ? mine.front().name.str() : root.string();
  } catch (const Error&) {
    return "";  // the operation itself says what is wrong
  }
}

void add_quick(Service& service, const std::shared_ptr<Core>& core) {
  service.add("status", Lane::quick, [core](CallContext&, const Json& params) {
    const auto detail = value_or<bool>(params, "verbose", false) ? Detail::verbose : Detail::brief;
    if (value_or<bool>(params, "all", false)) return all_status(*core, detail);
    const auto record = core->resolve(params);
    return sandbox_status(*core, record, detail);
  });
  service.add("ports", Lane::quick, [core](CallContext&, const Json& params) {
    return list_ports(*core, running_sandbox(*core, params).first);
  });
  service.add("agents.next", Lane::quick, [core](CallContext&, const Json&) {
    const auto next = core->agents().next();
    if (!next) throw Error(ErrorCode::not_found, "no agent waits for you", "agentvm list");
    const auto& [name, session] = *next;
    const auto branch = session_branch(core->store().get(name), session).value_or("");
    return Json{{"name", name.str()}, {"worktree", branch}};
  });
  service.add("list", Lane::quick, [core](CallContext&, const Json& params) {
    return list_sandboxes(*core, text_or_empty(params, "state"));
  });
  service.add("ssh-config", Lane::quick,
              [core](CallContext&, const Json& params) { return ssh_config(*core, params); });
  service.add("logs", Lane::quick, [core](CallContext&, const Json& params) { return logs(*core, params); });
  service.add("logs.agent", Lane::work, [core](CallContext&, const Json& params) { return agent_log(*core, params); });
  service.add("recording", Lane::work, [core](CallContext&, const Json& params) { return recording(*core, params); });
  service.add("plan", Lane::work, [core](CallContext&, const Json& params) { return plan_json(*core, params); });
  service.add("config.show", Lane::quick, [core](CallContext&, const Json& params) {
    const auto config = resolve_config(config_input(*core, read_client_setting(params)));
    auto result = config_json(config);
    result["egress"] = egress_config(config);
    return result;
  });
  // Asked before start and run: what the client is to send of its own environment: for the agent, where there is one,
  // and for secrets, which stay here.
  service.add("agents.variables", Lane::quick, [core](CallContext&, const Json& params) {
    const auto plan = plan_request(*core, read_client_setting(params));
    const bool wanted = plan.agent.value != no_agent;
    return Json{{"schema", "agentvm.agents-variables/1"},
                {"pass", wanted ? Json(plan.env_pass.value) : Json::array()},
                {"deny", plan.env_deny.value},
                {"secrets", secret_variables(plan.egress_secrets.value)}};
  });
  service.add("config.validate", Lane::quick,
              [core](CallContext&, const Json& params) { return validate_config(*core, params); });
  service.add("doctor", Lane::work,
              [core](CallContext& call, const Json& params) { return run_doctor(*core, call, params); });
}

void add_sandbox_operations(Service& service, const std::shared_ptr<Core>& core) {
  service.add("start", Lane::sandbox, [core](CallContext& call, const Json& params) {
    return start_sandbox(*core, call, read_client_setting(params),
                         {.fresh = value_or<bool>(params, "fresh", false),
                          .task = value_or<std::vector<std::string>>(params, "task", {}),
                          .variables = value_or<std::map<std::string, std::string>>(params, "variables", {})});
  });
  service.add("stop", Lane::sandbox,
              [core](CallContext& call, const Json& params) { return stop_sandbox(*core, call, params); });
  service.add("suspend", Lane::sandbox,
              [core](CallContext& call, const Json& params) { return suspend_sandbox(*core, call, params); });
  service.add("resume", Lane::sandbox,
              [core](CallContext& call, const Json& params) { return resume_sandbox(*core, call, params); });
  service.add("destroy", Lane::sandbox,
              [core](CallContext& call, const Json& params) { return destroy_sandbox(*core, call, params); });
  service.add("sync", Lane::sandbox,
              [core](CallContext& call, const Json& params) { return sync_sandbox(*core, call, params); });
  service.add_async(
      "sync.next", Lane::quick,
      [core](const std::shared_ptr<Responder>& call, const Json& params) { next_sync(*core, call, params); },
      OnRetire::interrupt);
  service.add("worktree.add", Lane::sandbox,
              [core](CallContext& call, const Json& params) { return add_worktree(*core, call, params); });
  service.add("worktree.list", Lane::work,
              [core](CallContext&, const Json& params) { return list_worktrees(*core, params); });
  service.add("worktree.remove", Lane::sandbox,
              [core](CallContext& call, const Json& params) { return remove_worktree(*core, call, params); });
  service.add("artifacts", Lane::work,
              [core](CallContext& call, const Json& params) { return bring_artifacts(*core, call, params); });
  service.add("remote.list", Lane::work,
              [core](CallContext& call, const Json& params) { return list_remote(*core, call, params); });
  service.add("remote.fetch", Lane::work,
              [core](CallContext& call, const Json& params) { return fetch_remote(*core, call, params); });
  service.add_async("exec", Lane::work, [core](const std::shared_ptr<Responder>& call, const Json& params) {
    exec_in_guest(*core, call, params);
  });
  service.add_async("run", Lane::work, [core](const std::shared_ptr<Responder>& call, const Json& params) {
    run_in_sandbox(*core, call, params);
  });
  service.add_async("connect", Lane::quick, [core](const std::shared_ptr<Responder>& call, const Json& params) {
    connect_to_guest(*core, call, params);
  });
  service.add("rescue.ls", Lane::work,
              [core](CallContext& call, const Json& params) { return list_disk_files(*core, call, params); });
  service.add("rescue.cat", Lane::work,
              [core](CallContext& call, const Json& params) { return print_disk_file(*core, call, params); });
  service.add("rescue.cp", Lane::work,
              [core](CallContext& call, const Json& params) { return copy_disk_files(*core, call, params); });
  service.add_async(
      "attach", Lane::work,
      [core](const std::shared_ptr<Responder>& call, const Json& params) { attach_to_guest(*core, call, params); },
      OnRetire::interrupt);
}

void add_wip_operations(Service& service, const std::shared_ptr<Core>& core) {
  service.add("wip.list", Lane::work, [core](CallContext&, const Json& params) { return list_wip(*core, params); });
  service.add("wip.show", Lane::work, [core](CallContext&, const Json& params) { return show_wip(*core, params); });
  service.add("wip.apply", Lane::sandbox,
              [core](CallContext& call, const Json& params) { return apply_wip(*core, call, params); });
  service.add("wip.drop", Lane::sandbox, [core](CallContext&, const Json& params) { return drop_wip(*core, params); });
  service.add("losses", Lane::work, [core](CallContext&, const Json& params) { return list_losses(*core, params); });
}

}  // namespace

void register_operations(Service& service, const Paths& paths) {
  auto core = std::make_shared<Core>(paths);
  core->front().open();
  reconcile(*core);
  end_left_runs(*core);
  keep_recordings_in_time(*core);
  add_quick(service, core);
  add_sandbox_operations(service, core);
  add_wip_operations(service, core);
  add_image_operations(service, core);
  add_agent_operations(service, core);
  add_agent_update_operations(service, core);
  add_trust_operations(service, core);
  add_egress_operations(service, core);
  service.lane_key([core](const Json& params) { return lane_key(*core, params); });
  service.busy([core] { return core->any_live() || !core->templates().machine().empty(); });
  service.status_details([core](Json& status) { status["sandboxes"] = core->live_count(); });
  service.on_stop([core] { core->shut_down(); });
}

}  // namespace agentvm::manager
