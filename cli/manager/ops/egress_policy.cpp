#include "cli/manager/ops/egress_policy.hpp"

#include <cstdlib>

#include <fmt/format.h>

#include "cli/manager/ops/guest_settings.hpp"
#include "cli/manager/ops/host_packages.hpp"
#include "proxy/egress/presets.hpp"
#include "proxy/egress/summary.hpp"
#include "proxy/egress/upstream_proxy.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

egress::Unlisted unlisted(bool ask) {
  return ask ? egress::Unlisted::asked : egress::Unlisted::refused;
}

/// Why a preset lists a host; empty for other rules.
std::string_view preset_reason(const egress::HostRule& rule) {
  for (const auto& preset : egress::presets())
    if (rule.origin == fmt::format("preset {}", preset.name))
      for (const auto& [host, reason] : preset.hosts)
        if (rule.str() == host) return reason;
  return "";
}

bool is_effective(const egress::EgressPolicy& policy, const egress::HostRule& rule) {
  // A name that stands for all that a wildcard matches: denied as a whole only by a rule about all of them.
  const auto host = rule.subdomains ? "any." + rule.host : rule.host;
  if (rule.port) return policy.decide(host, *rule.port).allowed;
  return policy.decide(host, 443).allowed || policy.decide(host, 80).allowed;
}

}  // namespace

EgressLists egress_lists(const SandboxRecord& record) {
  return {.presets = record.egress_presets,
          .allow = record.egress_allow,
          .deny = record.egress_deny,
          .grants = record.egress_grants,
          .own_allow = record.egress_own_allow,
          .own_deny = record.egress_own_deny,
          .unlisted = unlisted(record.egress_ask)};
}

EgressLists egress_lists(const Plan& plan) {
  return {.presets = plan.egress_presets.value,
          .allow = plan.egress_allow.value,
          .deny = plan.egress_deny.value,
          .grants = plan.egress_grants.value,
          .unlisted = unlisted(plan.egress_ask.value)};
}

std::string suite_of(Core& core, const SandboxRecord& record) {
  try {
    const auto suite = get_image(core.paths().images(), record.image_digest).suite;
    return suite.empty() ? default_suite : suite;
  } catch (const Error&) {
    // The image is not built yet, or gone from the list: its sources are most likely these.
    return default_suite;
  }
}

egress::EgressPolicy egress_policy(const EgressLists& lists, const std::string& suite) {
  std::vector<egress::HostRule> grants;
  for (const auto& text : lists.grants) grants.push_back(egress::HostRule::parse(text, "egress.grants", true));
  const auto own = [](const std::vector<std::string>& texts, const char* verb) {
    return egress::allow_entries(texts, fmt::format("agentvm egress {}", verb));
  };
  return egress::EgressPolicy(
      egress::merged({host_package_rules(suite), std::move(grants), egress::preset_rules(lists.presets),
                      egress::allow_entries(lists.allow, "egress.allow"), own(lists.own_allow, "allow")}),
      egress::merged({egress::allow_entries(lists.deny, "egress.deny"), own(lists.own_deny, "deny")}), lists.unlisted);
}

std::shared_ptr<egress::CapLedger> cap_ledger(Core& core, const SandboxRecord& record) {
  if (record.egress_caps.empty()) return nullptr;
  std::vector<egress::Cap> caps;
  for (const auto& text : record.egress_caps) caps.push_back(egress::Cap::parse(text));
  auto ledger = std::make_shared<egress::CapLedger>(std::move(caps));
  core.journal().flush();
  egress::add_history(*ledger, egress::read_journal(core.store().folder(record.name) / sandbox_files::egress_journal));
  return ledger;
}

namespace {

/// A configuration that is not in order leaves it as it was: the next command says so, and a sandbox that runs goes on.
/// A project's file is not even read: a guest that breaks it must not get around the proxy.
void apply_upstream(Core& core) {
  try {
    const auto setting = core.user_config().text("egress.upstream");
    core.egress().set_upstream(egress::upstream_proxy(setting, [](const char* name) {
      const char* value = std::getenv(name);
      return std::string(value ? value : "");
    }));
  } catch (const Error& error) {
    log::warn("egress", "egress.upstream: {}", error.what());
  }
}

}  // namespace

void apply_egress_policy(Core& core, const SandboxName& name) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  const auto record = core.store().get(name);
  apply_upstream(core);
  core.egress().set_secrets(name.str(), core.secrets().set_for(record, host_authorities()));
  core.egress().set_policy(name.str(), egress_policy(egress_lists(record), suite_of(core, record)));
}

Json egress_rules_json(const egress::EgressPolicy& policy) {
  auto rules = Json::array();
  for (const auto& rule : policy.deny())
    rules.push_back({{"rule", rule.str()},
                     {"verdict", "deny"},
                     {"origin", rule.origin},
                     {"reason", ""},
                     {"grant", false},
                     {"effective", true}});
  for (const auto& rule : policy.allow())
    rules.push_back({{"rule", rule.str()},
                     {"verdict", "allow"},
                     {"origin", rule.origin},
                     {"reason", preset_reason(rule)},
                     {"grant", rule.grant},
                     {"effective", is_effective(policy, rule)}});
  return rules;
}

std::vector<std::string> egress_warnings(const egress::EgressPolicy& policy) {
  std::vector<std::string> warnings;
  for (const auto& rule : policy.allow()) {
    const auto address = egress::IpAddress::parse(rule.host);
    if (!rule.grant && address && egress::is_special(*address))
      warnings.push_back(fmt::format("{}: {} is a private or otherwise special address, which only egress.grants opens",
                                     rule.origin, rule.str()));
  }
  return warnings;
}

}  // namespace agentvm::manager
