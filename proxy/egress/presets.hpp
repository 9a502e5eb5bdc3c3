#pragma once
// Ready lists of hosts under a name: what `egress.presets` stands for. Pure data; docs/reference/egress-presets.md is
// generated from it.
//
// A host belongs here when ordinary work of an agent needs it, when whoever runs it is known, and when it does not
// serve everybody's content under one name (a storage host would be a way out for anything). Exact names only.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/egress/policy.hpp"

namespace agentvm::egress {

struct PresetHost {
  std::string_view host;    ///< as `HostRule::parse` reads it
  std::string_view reason;  ///< what needs it
};

struct Preset {
  std::string_view name;     ///< one of the choices of the key `egress.presets`
  std::string_view summary;  ///< one line, no full stop
  std::span<const PresetHost> hosts;
};

std::span<const Preset> presets();
/// nullptr for an unknown name.
const Preset* find_preset(std::string_view name);
/// The rules of the presets with these names, each with the origin "preset NAME". Throws `usage` for an unknown name.
std::vector<HostRule> preset_rules(const std::vector<std::string>& names);
/// docs/reference/egress-presets.md.
std::string presets_reference_markdown();

}  // namespace agentvm::egress
