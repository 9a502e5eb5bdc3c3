#include "cli/manager/ops/egress_ops.hpp"

#include <future>

#include <fmt/format.h>

#include "cli/manager/ops/egress_policy.hpp"
#include "cli/manager/ops/requests.hpp"
#include "proxy/egress/refusal.hpp"
#include "proxy/egress/summary.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds resolve_limit{10'000};
constexpr std::size_t own_rules_limit = 1000;

fs::path journal_file(Core& core, const SandboxRecord& record) {
  return core.store().folder(record.name) / sandbox_files::egress_journal;
}

std::vector<egress::JournalEntry> journal_of(Core& core, const SandboxRecord& record) {
  core.journal().flush();
  return egress::read_journal(journal_file(core, record));
}

Json row_json(const egress::SummaryRow& row) {
  auto json = egress::to_json(egress::JournalEntry{.decision = row.last});
  json.erase("event");
  json.erase("sandbox");
  json["count"] = row.count;
  return json;
}

Json egress_log(Core& core, const Json& params) {
  const auto record = core.resolve(params);
  const auto verdict = text_or_empty(params, "verdict");
  const auto wanted = [&](const egress::Decision& decision) {
    return verdict.empty() || verdict == egress::to_string(decision.kind);
  };
  const auto entries = journal_of(core, record);
  Json result{{"schema", "agentvm.egress-log/1"},       {"name", record.name.str()},
              {"network", to_string(record.network)},   {"path", journal_file(core, record).string()},
              {"waiting", waiting_names(core, record)}, {"rows", Json::array()}};
  for (const auto& row : egress::summarise(entries))
    if (wanted(row.last)) result["rows"].push_back(row_json(row));
  if (!value_or<bool>(params, "each", false)) return result;
  result["entries"] = Json::array();
  for (const auto& entry : entries)
    if (wanted(entry.decision)) result["entries"].push_back(egress::to_json(entry));
  return result;
}

bool is_sandbox(Core& core, const std::string& text) {
  const auto records = core.store().list().records;
  return std::any_of(records.begin(), records.end(), [&](const auto& record) { return record.name.str() == text; });
}

/// HOST or HOST:PORT of a request, wildcards as rules have them. Throws `usage`.
egress::HostRule host_of(Core& core, const Json& params) {
  const auto text = text_or_empty(params, "host");
  // One word is the host, and `agentvm egress allow box` has most likely lost it.
  if (!optional_text(params, "name") && is_sandbox(core, text))
    throw Error(ErrorCode::usage, fmt::format("'{}' is a sandbox: which host is meant?", text),
                fmt::format("agentvm egress allow {} HOST", text));
  return egress::HostRule::parse(text, "HOST");
}

/// The host's answer for `host`; empty when it does not come in time.
std::vector<egress::IpAddress> resolve(const std::string& host) {
  const auto answer = std::make_shared<std::promise<std::vector<egress::IpAddress>>>();
  auto future = answer->get_future();
  // A lookup cannot be ended: it goes on by itself, with nothing of ours.
  std::thread([answer, host] { answer->set_value(egress::resolve_on_host(host)); }).detach();
  if (future.wait_for(resolve_limit) != std::future_status::ready) return {};
  return future.get();
}

Json verdict_json(const egress::Verdict& verdict) {
  return {{"allowed", verdict.allowed},
          {"cause", to_string(verdict.cause)},
          {"rule", verdict.rule},
          {"reason", verdict.reason},
          {"grant", verdict.grant}};
}

Json check_host(Core& core, const Json& params) {
  const auto record = core.resolve(params);
  const auto rule = host_of(core, params);
  if (rule.subdomains)
    throw Error(ErrorCode::usage, "one name is checked, not a wildcard", "agentvm help egress check");
  const egress::HostPort target{rule.host, rule.port.value_or(egress::https_port)};
  const auto policy = egress_policy(egress_lists(record), suite_of(core, record));
  auto verdict = policy.decide(target.host, target.port);
  auto addresses = Json::array();
  // A name that is not listed is not looked up either: the question alone would tell somebody.
  if (verdict.allowed) {
    const auto found = resolve(target.host);
    for (const auto& address : found) addresses.push_back(address.str());
    if (!found.empty() && egress::EgressPolicy::reachable(found, verdict.grant, egress::own_addresses()).empty()) {
      verdict.allowed = false;
      verdict.cause = egress::Cause::special_address;
      verdict.reason = fmt::format("{} is a private or otherwise special address, which only egress.grants opens",
                                   found.front().str());
    }
  }
  if (record.network == NetworkMode::none)
    verdict = {.reason = "the sandbox has no network (network: none)", .cause = egress::Cause::not_listed};
  if (record.network == NetworkMode::nat)
    verdict = {.allowed = true, .rule = "network: nat", .cause = egress::Cause::allowed};
  if (verdict.ask && !verdict.allowed) verdict.reason += "; it would wait for you to decide (egress.ask)";
  auto result = verdict_json(verdict);
  result["schema"] = "agentvm.egress-check/1";
  result["name"] = record.name.str();
  result["network"] = to_string(record.network);
  result["host"] = target.host;
  result["port"] = target.port;
  result["addresses"] = std::move(addresses);
  return result;
}

enum class Verb { allow, deny };

/// Refuses a rule that would do nothing.
void check_own_allow(const egress::HostRule& rule, EgressLists lists, const std::string& suite,
                     const std::string& name) {
  if (const auto address = egress::IpAddress::parse(rule.host); address && egress::is_special(*address))
    throw Error(ErrorCode::decision_needed,
                fmt::format("{} is a private or otherwise special address: only egress.grants in your own "
                            "configuration file opens it, at the next start",
                            rule.str()),
                "agentvm config show");
  lists.own_allow.push_back(rule.str());
  const auto host = rule.subdomains ? "any." + rule.host : rule.host;
  const auto verdict = egress_policy(lists, suite).decide(host, rule.port.value_or(egress::https_port));
  if (!verdict.allowed)
    throw Error(ErrorCode::decision_needed, fmt::format("{}, which wins over what is allowed", verdict.reason),
                "agentvm egress check " + name + " " + rule.host);
}

Json change_rules(Core& core, const Json& params, Verb verb) {
  auto record = core.resolve(params);
  const auto rule = host_of(core, params).str();
  const bool remove = value_or<bool>(params, "remove", false);
  const auto take_out = [&](std::vector<std::string>& list) { return std::erase(list, rule) > 0; };
  if (verb == Verb::allow && !remove) {
    auto lists = egress_lists(record);
    take_out(lists.own_deny);
    check_own_allow(egress::HostRule::parse(rule, "HOST"), lists, suite_of(core, record), record.name.str());
  }
  bool changed = false;
  record = core.store().update(record.name, [&](SandboxRecord& r) {
    auto& mine = verb == Verb::allow ? r.egress_own_allow : r.egress_own_deny;
    auto& other = verb == Verb::allow ? r.egress_own_deny : r.egress_own_allow;
    if (remove) {
      changed = take_out(mine);
      return;
    }
    changed = take_out(other);
    if (std::find(mine.begin(), mine.end(), rule) != mine.end()) return;
    if (mine.size() >= own_rules_limit)
      throw Error(ErrorCode::usage, fmt::format("{} has {} rules of its own already", r.name.str(), mine.size()),
                  "agentvm status --verbose " + r.name.str());
    mine.push_back(rule);
    changed = true;
  });
  const bool at_once = record.network == NetworkMode::filtered && core.live(record.name) != nullptr;
  if (at_once) apply_egress_policy(core, record.name);
  return {{"schema", verb == Verb::allow ? "agentvm.egress-allow/1" : "agentvm.egress-deny/1"},
          {"name", record.name.str()},
          {"rule", rule},
          {"changed", changed},
          {"removed", remove},
          {"network", to_string(record.network)},
          {"in_force", at_once},
          {"allow", record.egress_own_allow},
          {"deny", record.egress_own_deny}};
}

Json suggest_rules(Core& core, const Json& params) {
  const auto record = core.resolve(params);
  auto given = egress_lists(record);
  given.allow.clear();
  given.own_allow.clear();
  const auto suggestions = egress::suggest(journal_of(core, record), egress_policy(given, suite_of(core, record)));
  Json result{{"schema", "agentvm.egress-suggest/1"}, {"name", record.name.str()}, {"allow", Json::array()}};
  for (const auto& [rule, allowed, denied] : suggestions)
    result["allow"].push_back({{"rule", rule}, {"allowed", allowed}, {"denied", denied}});
  return result;
}

}  // namespace

Json waiting_names(Core& core, const SandboxRecord& record) {
  auto names = Json::array();
  for (const auto& question : core.egress().questions(record.name.str()))
    names.push_back(
        {{"rule", question.rule}, {"since", format_time(question.since)}, {"connections", question.connections}});
  return names;
}

namespace {

/// `[{cap, used, limit, seconds}]`: until there is room again, 0 where there is. Empty until it has run under this
/// manager.
Json caps_status(Core& core, const SandboxRecord& record) {
  auto caps = Json::array();
  if (const auto ledger = core.egress().caps(record.name.str()))
    for (const auto& state : ledger->states(system_clock().unix_seconds()))
      caps.push_back({{"cap", state.cap}, {"used", state.used}, {"limit", state.limit}, {"seconds", state.seconds}});
  return caps;
}

}  // namespace

Json egress_status(Core& core, const SandboxRecord& record) {
  const auto live = core.live(record.name);
  Json status{
      {"mode", to_string(record.network)},
      {"exposes", network_exposure(record.network)},
      {"open", record.network == NetworkMode::filtered && live && live->session_if_alive(Session::data) != nullptr}};
  const auto counts = core.journal().counts(record.name.str());
  status["allowed"] = counts ? Json(counts->allowed) : Json();
  status["denied"] = counts ? Json(counts->denied) : Json();
  status["failed"] = counts ? Json(counts->failed) : Json();
  status["caps"] = caps_status(core, record);
  status["ask"] = record.egress_ask;
  status["waiting"] = waiting_names(core, record);
  return status;
}

Json egress_config(const Config& config) {
  const EgressLists lists{.presets = config.list("egress.presets"),
                          .allow = config.list("egress.allow"),
                          .deny = config.list("egress.deny"),
                          .grants = config.list("egress.grants")};
  const auto policy = egress_policy(lists, default_suite);
  return {{"rules", egress_rules_json(policy)}, {"warnings", egress_warnings(policy)}};
}

Json egress_plan(Core& core, const Plan& plan, const std::optional<SandboxRecord>& existing) {
  auto lists = egress_lists(plan);
  if (existing) {
    lists.own_allow = existing->egress_own_allow;
    lists.own_deny = existing->egress_own_deny;
  }
  const auto policy = egress_policy(lists, existing ? suite_of(core, *existing) : default_suite);
  const bool filtered = plan.network.value == NetworkMode::filtered;
  const auto& rules = plan.egress_secrets.value;
  auto warnings = filtered ? egress_warnings(policy) : std::vector<std::string>{};
  const auto secrets = filtered ? secrets_plan(rules, policy, warnings) : Json::array();
  if (!filtered && !rules.empty())
    warnings.push_back(fmt::format("egress.secrets: with network {} the guest gets no placeholders, and no secrets",
                                   to_string(plan.network.value)));
  if (!filtered && !plan.egress_caps.value.empty())
    warnings.push_back(fmt::format("egress.caps: with network {} nothing is counted", to_string(plan.network.value)));
  if (!filtered && !plan.decoys.value.empty())
    warnings.push_back(fmt::format("decoys: with network {} there are none, because nobody would see one that is sent",
                                   to_string(plan.network.value)));
  return {{"mode", to_string(plan.network.value)},
          {"exposes", network_exposure(plan.network.value)},
          {"ask", filtered && plan.egress_ask.value},
          {"upstream", filtered ? plan.egress_upstream.value : "direct"},
          {"rules", filtered ? egress_rules_json(policy) : Json::array()},
          {"secrets", secrets},
          {"caps", filtered ? Json(plan.egress_caps.value) : Json::array()},
          {"decoys", filtered ? decoys_json(plan.decoys.value) : Json::array()},
          {"warnings", warnings}};
}

void add_egress_operations(Service& service, const std::shared_ptr<Core>& core) {
  service.add("egress.log", Lane::work, [core](CallContext&, const Json& params) { return egress_log(*core, params); });
  service.add("egress.check", Lane::work,
              [core](CallContext&, const Json& params) { return check_host(*core, params); });
  service.add("egress.allow", Lane::work,
              [core](CallContext&, const Json& params) { return change_rules(*core, params, Verb::allow); });
  service.add("egress.deny", Lane::work,
              [core](CallContext&, const Json& params) { return change_rules(*core, params, Verb::deny); });
  service.add("egress.suggest", Lane::work,
              [core](CallContext&, const Json& params) { return suggest_rules(*core, params); });
}

}  // namespace agentvm::manager
