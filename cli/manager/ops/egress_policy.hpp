#pragma once
// The rules of one sandbox, put together from everywhere they come from.

#include "cli/manager/ops/core.hpp"
#include "proxy/egress/caps.hpp"
#include "proxy/egress/policy.hpp"
#include "vmm/plan.hpp"

namespace agentvm::manager {

/// As lists of text, the way configuration and record hold them.
struct EgressLists {
  std::vector<std::string> presets, allow, deny, grants;
  std::vector<std::string> own_allow, own_deny;  ///< of `agentvm egress allow` and `deny`
  egress::Unlisted unlisted = egress::Unlisted::refused;
};
EgressLists egress_lists(const SandboxRecord& record);
EgressLists egress_lists(const Plan& plan);

/// Of the built-in recipe.
inline constexpr const char* default_suite = "bookworm";
/// The Debian suite of the record's image: its package sources are allowed.
std::string suite_of(Core& core, const SandboxRecord& record);
/// Package sources, registries and indexes of the host, presets, and the lists. Throws `usage` naming a rule that does
/// not parse.
egress::EgressPolicy egress_policy(const EgressLists& lists, const std::string& suite);
/// What it may take of hosts, and what its journal says that it has taken; nothing where it has no caps.
std::shared_ptr<egress::CapLedger> cap_ledger(Core& core, const SandboxRecord& record);
/// Gives the proxy the policy and the secrets that the record has now. Of two at once, the newer record's stands at the
/// end.
void apply_egress_policy(Core& core, const SandboxName& name);

/// `[{rule, verdict: allow|deny, origin, reason, grant, effective}]`: every rule; `effective` is false for one that a
/// denying rule takes away.
Json egress_rules_json(const egress::EgressPolicy& policy);
/// What is odd about the lists: addresses in egress.allow that only a grant opens.
std::vector<std::string> egress_warnings(const egress::EgressPolicy& policy);

}  // namespace agentvm::manager
