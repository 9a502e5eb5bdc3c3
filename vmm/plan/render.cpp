#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm/base/text.hpp"
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
  json["workspace_mode"] = entry(to_string(workspace.value), workspace.origin);
  json["network"] = entry(to_string(network.value), network.origin);
  json["image"] = entry(image.value.str(), image.origin);
  json["image"]["kind"] = image.value.recipe.empty() ? "name" : "recipe";
  json["accelerator"] = entry(to_string(accelerator.value), accelerator.origin);
  json["libvirt_uri"] = entry(libvirt_uri.value, libvirt_uri.origin);
  json["persist"] = entry(persist.value, persist.origin);
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
  json["git_identity"] = entry(git_identity.value, git_identity.origin);
  json["warnings"] = warnings;
  return json;
}

std::string Plan::render() const {
  std::string text;
  const auto line = [&](std::string_view label, std::string_view value, std::string_view from) {
    // Folder names and branches are foreign: whoever made them may want to steer the terminal.
    text += fmt::format("{:<16}{:<30}  {}\n", label, clean_guest_text(value), clean_guest_text(from));
  };
  const auto on = [](bool value) { return value ? "yes" : "no"; };
  line("sandbox", name.value.str(), name.origin.str());
  line("project", project.root.string(), project.subfolder.empty() ? "" : "working in " + project.subfolder.string());
  line("branch", branch.value.value_or("-"), branch.origin.str());
  line("memory",
       memory.value == memory_asked ? memory.value.str()
                                    : fmt::format("{} (asked: {})", memory.value.str(), memory_asked.str()),
       memory.origin.str());
  line("vcpus",
       vcpus.value == vcpus_asked ? fmt::format("{}", vcpus.value)
                                  : fmt::format("{} (asked: {})", vcpus.value, vcpus_asked),
       vcpus.origin.str());
  line("nested", on(nested.value), nested.origin.str());
  line("workspace", to_string(workspace.value), workspace.origin.str());
  line("network", to_string(network.value), network.origin.str());
  const auto hosts = [&](std::string_view label, const Planned<std::vector<std::string>>& list) {
    line(label, list.value.empty() ? "-" : fmt::format("{}", fmt::join(list.value, ", ")), list.origin.str());
  };
  hosts("egress presets", egress_presets);
  hosts("egress allow", egress_allow);
  hosts("egress deny", egress_deny);
  hosts("egress grants", egress_grants);
  line("image", image.value.str(), image.origin.str());
  line("accelerator", to_string(accelerator.value), accelerator.origin.str());
  line("libvirt", libvirt_uri.value, libvirt_uri.origin.str());
  line("sync", sync_mode.value, sync_mode.origin.str());
  line("sync size", sync_limits.bytes.value.str(), sync_limits.bytes.origin.str());
  line("sync objects", fmt::format("{}", sync_limits.objects.value), sync_limits.objects.origin.str());
  line("sync refs", fmt::format("{}", sync_limits.refs.value), sync_limits.refs.origin.str());
  line("sync memory", sync_limits.memory.value.str(), sync_limits.memory.origin.str());
  line("sync time", fmt::format("{} s", sync_limits.seconds.value), sync_limits.seconds.origin.str());
  line("persist", on(persist.value), persist.origin.str());
  line("git identity", on(git_identity.value), git_identity.origin.str());
  for (const auto& warning : warnings) text += fmt::format("warning: {}\n", clean_guest_text(warning));
  return text;
}

}  // namespace agentvm
