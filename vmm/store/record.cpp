#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm/base/clock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/sandbox.hpp"

namespace agentvm {

std::string domain_name(const std::string& id) {
  return "avm-" + id.substr(0, 8);
}

std::string new_uuid() {
  auto hex = random_hex(16);
  hex[12] = '4';                                                             // version: random
  hex[16] = "89ab"[std::string_view("0123456789abcdef").find(hex[16]) % 4];  // variant: RFC 4122
  return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4), hex.substr(16, 4),
                     hex.substr(20));
}

namespace {
/// The values that a later start may change.
void take_changeable(SandboxRecord& record, const Plan& plan) {
  record.memory = plan.memory.value;
  record.vcpus = plan.vcpus.value;
  record.vcpus_asked = plan.vcpus.origin.layer != ConfigLayer::default_value;
  record.nested = plan.nested.value;
  record.warm_wish = plan.warm.value;
  record.nested_memory = plan.nested_memory.value;
  record.nested_vcpus = plan.nested_vcpus.value;
  record.network = plan.network.value;
  record.agent = plan.agent.value;
  record.accelerator_wish = plan.accelerator.value;
  record.persist = plan.persist.value;
  record.autostart = plan.autostart.value;
  record.sync_mode = plan.sync_mode.value;
  record.egress_presets = plan.egress_presets.value;
  record.egress_allow = plan.egress_allow.value;
  record.egress_deny = plan.egress_deny.value;
  record.egress_grants = plan.egress_grants.value;
  record.egress_ask = plan.egress_ask.value;
  record.egress_secrets = plan.egress_secrets.value;
  record.egress_caps = plan.egress_caps.value;
  record.decoys = plan.decoys.value;
  record.git_identity = plan.git_identity.value;
  record.warnings = plan.warnings;
}

std::string listed(const std::vector<std::string>& words) {
  return words.empty() ? "none" : fmt::format("{}", fmt::join(words, ", "));
}
}  // namespace

SandboxRecord record_from_plan(const Plan& plan, std::int64_t now) {
  SandboxRecord record{.id = new_uuid(), .name = plan.name.value, .project = plan.project.root};
  record.created = record.state_since = now;
  record.domain = domain_name(record.id);
  record.branch = plan.branch.value.value_or("");
  record.workspace = plan.workspace.value;
  record.image = plan.image.value.str();
  record.image_layers = plan.layers.value;
  record.libvirt_uri = plan.libvirt_uri.value;
  take_changeable(record, plan);
  return record;
}

void apply_plan(SandboxRecord& record, const Plan& plan) {
  const auto network = record.network;
  const auto agent = record.agent;
  take_changeable(record, plan);
  // A flag of an earlier start is not remembered; that the guest may reach more than then is worth a word.
  if (network == NetworkMode::none && record.network != network)
    record.warnings.push_back(
        fmt::format("network is {} now, it was none: '--network none' or network in agentvm.yaml keeps it so",
                    to_string(record.network)));
  if (agent != no_agent && record.agent == no_agent)
    record.warnings.push_back(fmt::format(
        "no agent is started now, it was {0}: '--agent {0}' or agent in your configuration keeps it so", agent));
  const auto kept = [&](std::string_view what, std::string_view old_value, std::string_view new_value) {
    if (old_value != new_value)
      record.warnings.push_back(fmt::format(
          "{} stays {}: the sandbox was made with it; '{}' needs a new one (agentvm destroy {}, then start)", what,
          old_value, new_value, record.name.str()));
  };
  kept("workspace mode", to_string(record.workspace), to_string(plan.workspace.value));
  kept("image", record.image, plan.image.value.str());
  kept("set of layers", listed(record.image_layers), listed(plan.layers.value));
  // "auto" is whatever the first boot pinned.
  if (plan.libvirt_uri.value != "auto") kept("libvirt uri", record.libvirt_uri, plan.libvirt_uri.value);
}

void apply_event(SandboxRecord& record, SandboxEvent event, std::string reason, std::string message, std::int64_t now) {
  const auto state = next(record.state, event, record.name.str());
  if (state != record.state) record.state_since = now;
  record.state = state;
  record.reason = std::move(reason);
  record.message = std::move(message);
}

namespace {
void write_history(const SandboxRecord& record, Json& json) {
  json["virtiofsd"] =
      record.virtiofsd ? Json{{"pid", record.virtiofsd->pid}, {"start_ticks", record.virtiofsd->start_ticks}} : Json();
  json["boot"] = record.boot
                     ? Json{{"started_at", format_time(record.boot->started_at)}, {"boot_id", record.boot->boot_id}}
                     : Json();
  json["teardown"] = record.teardown;
  json["last_sync"] = Json();
  if (const auto& sync = record.last_sync)
    json["last_sync"] = {{"time", format_time(sync->time)}, {"result", sync->result},
                         {"branch", sync->branch},          {"old_tip", sync->old_tip},
                         {"new_tip", sync->new_tip},        {"refs_token", sync->refs_token}};
  json["unsaved"] = record.unsaved;
  json["worktrees"] = Json::array();
  for (const auto& worktree : record.worktrees)
    json["worktrees"].push_back({{"branch", worktree.branch}, {"path", worktree.path}});
  json["base_commits"] = Json::object();
  for (const auto& [ref, commit] : record.base_commits) json["base_commits"][ref] = commit;
  json["warnings"] = record.warnings;
}
}  // namespace

Json record_to_json(const SandboxRecord& record) {
  Json json{{"schema", record_schema}};
  json["id"] = record.id;
  json["name"] = record.name.str();
  json["project"] = record.project.string();
  json["created"] = format_time(record.created);
  json["state"] = to_string(record.state);
  json["reason"] = record.reason;
  json["message"] = record.message;
  json["state_since"] = format_time(record.state_since);
  json["branch"] = record.branch;
  json["memory"] = record.memory.bytes();
  json["vcpus"] = record.vcpus;
  json["vcpus_asked"] = record.vcpus_asked;
  json["nested"] = record.nested;
  json["warm_wish"] = record.warm_wish;
  json["warm"] = record.warm;
  json["warm_reason"] = record.warm_reason;
  json["saved"] = record.saved;
  json["nested_memory"] = record.nested_memory.bytes();
  json["nested_vcpus"] = record.nested_vcpus;
  json["workspace_mode"] = to_string(record.workspace);
  json["network"] = to_string(record.network);
  json["agent"] = record.agent;
  json["layer"] = record.layer;
  json["agent_variables"] = record.agent_variables;
  json["agent_credentials"] = record.agent_credentials;
  json["image"] = record.image;
  json["image_layers"] = record.image_layers;
  json["image_digest"] = record.image_digest;
  json["accelerator_wish"] = to_string(record.accelerator_wish);
  json["accelerator"] = record.accelerator;
  json["accelerator_reason"] = record.accelerator_reason;
  json["libvirt_uri"] = record.libvirt_uri;
  json["scope"] = record.scope;
  json["scope_reason"] = record.scope_reason;
  json["persist"] = record.persist;
  json["autostart"] = record.autostart;
  json["throw_away"] = record.throw_away;
  json["sync_mode"] = record.sync_mode;
  json["egress_presets"] = record.egress_presets;
  json["egress_allow"] = record.egress_allow;
  json["egress_deny"] = record.egress_deny;
  json["egress_grants"] = record.egress_grants;
  json["egress_ask"] = record.egress_ask;
  json["egress_secrets"] = to_json(record.egress_secrets);
  json["egress_caps"] = record.egress_caps;
  json["decoys"] = record.decoys;
  json["frozen"] = record.frozen;
  json["egress_own_allow"] = record.egress_own_allow;
  json["egress_own_deny"] = record.egress_own_deny;
  json["git_identity"] = record.git_identity;
  json["ssh_port"] = record.ssh_port;
  json["domain"] = record.domain;
  write_history(record, json);
  // Below the top level too: what a newer version put into an object of ours stays there.
  const auto keep = [](auto&& self, Json& into, const Json& from) -> void {
    for (const auto& [key, value] : from.items()) {
      if (!into.contains(key))
        into[key] = value;
      else if (into[key].is_object() && value.is_object())
        self(self, into[key], value);
    }
  };
  keep(keep, json, record.unknown);
  return json;
}

namespace {

/// What `json` holds and a record made from it would not write: compared with the keys that we write.
Json unknown_keys(const Json& json, const Json& known) {
  auto rest = Json::object();
  for (const auto& [key, value] : json.items()) {
    if (!known.contains(key)) {
      rest[key] = value;
    } else if (key != "base_commits" && value.is_object() && known[key].is_object()) {
      if (auto inner = unknown_keys(value, known[key]); !inner.empty()) rest[key] = std::move(inner);
    }
  }
  return rest;
}

std::int64_t time_of(const Json& json, const std::string& key) {
  return parse_time(require<std::string>(json, key));
}

const Json* object_of(const Json& json, const std::string& key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return nullptr;
  if (!found->is_object()) throw Error(ErrorCode::operation_failed, fmt::format("key '{}' has the wrong type", key));
  return &*found;
}

void read_history(const Json& json, SandboxRecord& record) {
  if (const auto* process = object_of(json, "virtiofsd"))
    record.virtiofsd =
        ProcessRecord{require<int>(*process, "pid"), require<unsigned long long>(*process, "start_ticks")};
  if (const auto* boot = object_of(json, "boot"))
    record.boot = BootRecord{time_of(*boot, "started_at"), require<std::string>(*boot, "boot_id")};
  if (const auto* sync = object_of(json, "last_sync"))
    record.last_sync = SyncRecord{time_of(*sync, "time"),
                                  require<std::string>(*sync, "result"),
                                  value_or<std::string>(*sync, "branch", ""),
                                  value_or<std::string>(*sync, "old_tip", ""),
                                  value_or<std::string>(*sync, "new_tip", ""),
                                  value_or<std::string>(*sync, "refs_token", "")};
  if (const auto* commits = object_of(json, "base_commits"))
    for (const auto& [ref, commit] : commits->items()) record.base_commits[ref] = require<std::string>(*commits, ref);
  record.unsaved = value_or(json, "unsaved", false);
  record.throw_away = value_or(json, "throw_away", false);
  record.agent = value_or<std::string>(json, "agent", no_agent);
  record.layer = value_or<std::string>(json, "layer", "");
  for (const auto& worktree : value_or(json, "worktrees", std::vector<Json>{}))
    record.worktrees.push_back({require<std::string>(worktree, "branch"), require<std::string>(worktree, "path")});
  record.teardown = value_or(json, "teardown", std::vector<std::string>{});
  record.warnings = value_or(json, "warnings", std::vector<std::string>{});
}

}  // namespace

SandboxRecord record_from_json(const Json& json) {
  const auto schema = require<int>(json, "schema");
  if (schema > record_schema)
    throw Error(ErrorCode::operation_failed,
                fmt::format("the record has format {}, written by a newer agentvm; this one reads up to {}", schema,
                            record_schema),
                "agentvm --version");
  if (schema < 1) throw Error(ErrorCode::operation_failed, fmt::format("the record has the unknown format {}", schema));
  SandboxRecord record{.id = require<std::string>(json, "id"),
                       .name = SandboxName::parse(require<std::string>(json, "name")),
                       .project = require<std::string>(json, "project")};
  record.created = time_of(json, "created");
  record.state = sandbox_state_from(require<std::string>(json, "state"));
  record.reason = value_or<std::string>(json, "reason", "");
  record.message = value_or<std::string>(json, "message", "");
  record.state_since = json.contains("state_since") ? time_of(json, "state_since") : record.created;
  record.branch = value_or<std::string>(json, "branch", "");
  record.memory = ByteSize(require<std::uint64_t>(json, "memory"));
  record.vcpus = require<unsigned>(json, "vcpus");
  record.vcpus_asked = value_or(json, "vcpus_asked", true);
  record.nested = require<bool>(json, "nested");
  record.warm_wish = value_or(json, "warm_wish", false);
  record.warm = value_or(json, "warm", false);
  record.warm_reason = value_or<std::string>(json, "warm_reason", "");
  record.saved = value_or<bool>(json, "saved", false);
  record.nested_memory = ByteSize(value_or<std::uint64_t>(json, "nested_memory", 0));
  record.nested_vcpus = value_or<unsigned>(json, "nested_vcpus", 0);
  record.workspace = workspace_mode_from(require<std::string>(json, "workspace_mode"));
  record.network = network_mode_from(require<std::string>(json, "network"));
  record.image = require<std::string>(json, "image");
  record.image_digest = value_or<std::string>(json, "image_digest", "");
  record.accelerator_wish = accelerator_wish_from(require<std::string>(json, "accelerator_wish"));
  record.accelerator = value_or<std::string>(json, "accelerator", "");
  record.accelerator_reason = value_or<std::string>(json, "accelerator_reason", "");
  record.libvirt_uri = require<std::string>(json, "libvirt_uri");
  record.scope = value_or<std::string>(json, "scope", "");
  record.scope_reason = value_or<std::string>(json, "scope_reason", "");
  record.persist = value_or(json, "persist", true);
  record.autostart = value_or(json, "autostart", false);
  record.sync_mode = value_or<std::string>(json, "sync_mode", "manual");
  const auto texts = [&](const char* key) { return value_or(json, key, std::vector<std::string>{}); };
  record.egress_presets = texts("egress_presets");
  record.egress_allow = texts("egress_allow");
  record.egress_deny = texts("egress_deny");
  record.egress_grants = texts("egress_grants");
  record.egress_ask = value_or(json, "egress_ask", false);
  record.egress_secrets = secret_rules(value_or(json, "egress_secrets", Json()));
  record.egress_caps = texts("egress_caps");
  record.decoys = texts("decoys");
  record.frozen = value_or<std::string>(json, "frozen", "");
  record.agent_variables = value_or<std::vector<std::string>>(json, "agent_variables", {});
  record.agent_credentials = value_or<std::vector<std::string>>(json, "agent_credentials", {});
  record.image_layers = texts("image_layers");
  record.egress_own_allow = texts("egress_own_allow");
  record.egress_own_deny = texts("egress_own_deny");
  record.git_identity = value_or(json, "git_identity", true);
  record.ssh_port = value_or<std::uint16_t>(json, "ssh_port", 0);
  record.domain = value_or<std::string>(json, "domain", domain_name(record.id));
  read_history(json, record);
  record.unknown = unknown_keys(json, record_to_json(record));
  return record;
}

}  // namespace agentvm
