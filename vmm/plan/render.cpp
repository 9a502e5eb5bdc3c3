#include "vmm/plan.hpp"

namespace agentvm {
namespace {

Json entry(Json value, const Origin& origin) {
  return {{"value", std::move(value)}, {"origin", origin.to_json()}};
}

}  // namespace

Json Plan::to_json() const {
  Json json{{"schema", "agentvm.plan/1"}};
  json["project"] = project.root.string();
  json["subfolder"] = project.subfolder.string();
  json["name"] = entry(name.value.str(), name.origin);
  json["branch"] = entry(branch.value ? Json(*branch.value) : Json(), branch.origin);
  json["memory"] = entry(memory.value.bytes(), memory.origin);
  json["memory"]["asked"] = memory_asked.bytes();
  json["vcpus"] = entry(vcpus.value, vcpus.origin);
  json["vcpus"]["asked"] = vcpus_asked;
  json["nested"] = entry(nested.value, nested.origin);
  json["warm"] = entry(warm.value, warm.origin);
  json["limits_nested_memory"] = entry(nested_memory.value.bytes(), nested_memory.origin);
  json["limits_nested_vcpus"] = entry(nested_vcpus.value, nested_vcpus.origin);
  json["workspace_mode"] = entry(to_string(workspace.value), workspace.origin);
  json["env_pass"] = entry(env_pass.value, env_pass.origin);
  json["env_set"] = entry(env_set.value, env_set.origin);
  json["env_deny"] = entry(env_deny.value, env_deny.origin);
  json["env_files"] = entry(env_files.value, env_files.origin);
  json["env_commands"] = entry(env_commands.value, env_commands.origin);
  json["agent"] = entry(agent.value, agent.origin);
  json["credentials_copy"] = entry(credentials_copy.value, credentials_copy.origin);
  json["network"] = entry(to_string(network.value), network.origin);
  json["image"] = entry(image.value.str(), image.origin);
  json["image"]["kind"] = image.value.recipe.empty() ? "name" : "recipe";
  json["layers"] = entry(layers.value, layers.origin);
  json["accelerator"] = entry(to_string(accelerator.value), accelerator.origin);
  json["libvirt_uri"] = entry(libvirt_uri.value, libvirt_uri.origin);
  json["persist"] = entry(persist.value, persist.origin);
  json["autostart"] = entry(autostart.value, autostart.origin);
  json["sync_mode"] = entry(sync_mode.value, sync_mode.origin);
  json["sync_limits_bytes"] = entry(sync_limits.bytes.value.bytes(), sync_limits.bytes.origin);
  json["sync_limits_objects"] = entry(sync_limits.objects.value, sync_limits.objects.origin);
  json["sync_limits_refs"] = entry(sync_limits.refs.value, sync_limits.refs.origin);
  json["sync_limits_memory"] = entry(sync_limits.memory.value.bytes(), sync_limits.memory.origin);
  json["sync_limits_seconds"] = entry(sync_limits.seconds.value, sync_limits.seconds.origin);
  json["network"]["exposes"] = network_exposure(network.value);
  json["egress_presets"] = entry(egress_presets.value, egress_presets.origin);
  json["egress_allow"] = entry(egress_allow.value, egress_allow.origin);
  json["egress_deny"] = entry(egress_deny.value, egress_deny.origin);
  json["egress_grants"] = entry(egress_grants.value, egress_grants.origin);
  json["egress_ask"] = entry(egress_ask.value, egress_ask.origin);
  json["egress_secrets"] = entry(agentvm::to_json(egress_secrets.value), egress_secrets.origin);
  json["egress_caps"] = entry(egress_caps.value, egress_caps.origin);
  json["decoys"] = entry(decoys.value, decoys.origin);
  json["egress_upstream"] = entry(egress_upstream.value, egress_upstream.origin);
  json["git_identity"] = entry(git_identity.value, git_identity.origin);
  json["warnings"] = warnings;
  return json;
}

}  // namespace agentvm
