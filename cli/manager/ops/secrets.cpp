#include "cli/manager/ops/secrets.hpp"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>

#include "proxy/egress/caps.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/decoys.hpp"

namespace agentvm::manager {
namespace {

constexpr std::int64_t authority_days = 90;
constexpr std::size_t file_limit_bytes = 256 * 1024;
constexpr std::size_t placeholder_bytes = 24;  // of 48 hex digits no text holds by accident
constexpr milliseconds tell_again{60'000};

fs::path authority_folder(const Store& store, const SandboxRecord& record) {
  return store.folder(record.name) / sandbox_files::egress_authority;
}

/// Whose requests or tokens are counted.
std::set<std::string> counted_hosts(const SandboxRecord& record) {
  std::set<std::string> hosts;
  if (record.network != NetworkMode::filtered) return hosts;
  for (const auto& text : record.egress_caps)
    if (const auto cap = egress::Cap::parse(text); cap.unit != egress::Cap::Unit::bytes) hosts.insert(cap.host.host);
  return hosts;
}

std::vector<std::string> domains_of(const SandboxRecord& record) {
  std::set<std::string> domains;
  for (const auto& rule : record.egress_secrets)
    for (const auto& host : rule.hosts) domains.insert(egress::HostRule::parse(host, "egress.secrets").host);
  for (const auto& kind : record.decoys)
    for (const auto host : find_decoy_kind(kind).hosts) domains.insert(egress::HostRule::parse(host, "decoys").host);
  domains.merge(counted_hosts(record));
  return {domains.begin(), domains.end()};
}

std::shared_ptr<proxy::Authority> open_authority(const Store& store, const SandboxRecord& record,
                                                 proxy::AuthoritySpec::Unfit unfit) {
  const bool renew = unfit == proxy::AuthoritySpec::Unfit::replaced;
  const proxy::AuthoritySpec spec{.purpose = "secrets of " + record.name.str(),
                                  .title = "agentvm, hosts of secrets of " + record.name.str(),
                                  .domains = domains_of(record),
                                  .days = authority_days,
                                  .least_days = renew ? authority_days / 2 : 0,
                                  .unfit = unfit};
  return proxy::Authority::open(authority_folder(store, record), spec, system_clock());
}

std::string home() {
  const char* const value = std::getenv("HOME");
  return value ? value : "";
}

std::string shaped(const SecretRule& rule, const std::string& random) {
  auto text = rule.shape;
  return text.replace(text.find("{}"), 2, random);
}

/// Of hex digits of our own.
std::string bytes_of(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoul(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

egress::HostRule host_rule(const std::string& host) {
  auto rule = egress::HostRule::parse(host, "egress.secrets");
  if (!rule.port) rule.port = egress::secret_port;
  return rule;
}

}  // namespace

namespace {
bool ends_tls(const SandboxRecord& record) {
  return uses_secrets(record) || uses_decoys(record) || !counted_hosts(record).empty();
}
}  // namespace

bool uses_secrets(const SandboxRecord& record) {
  return record.network == NetworkMode::filtered && !record.egress_secrets.empty();
}

bool uses_decoys(const SandboxRecord& record) {
  return record.network == NetworkMode::filtered && !record.decoys.empty();
}

Json decoys_json(const std::vector<std::string>& kinds) {
  auto result = Json::array();
  for (const auto& name : kinds) {
    const auto& kind = find_decoy_kind(name);
    result.push_back({{"name", name}, {"file", "~/" + std::string(kind.file)}, {"hosts", kind.hosts}});
  }
  return result;
}

void SecretKeeper::begin(const SandboxRecord& record, std::map<std::string, std::string> variables) {
  forget(record.name);
  if (!ends_tls(record)) return;
  const auto wanted = secret_variables(record.egress_secrets);
  std::erase_if(variables, [&](const auto& entry) {
    return std::find(wanted.begin(), wanted.end(), entry.first) == wanted.end();
  });
  open_authority(store_, record, proxy::AuthoritySpec::Unfit::replaced);
  placeholders(record);
  const std::lock_guard lock(mutex_);
  kept_[record.name.str()].variables = std::make_shared<const std::map<std::string, std::string>>(std::move(variables));
}

bool SecretKeeper::take(const SandboxRecord& record, const std::map<std::string, std::string>& variables) {
  if (!uses_secrets(record)) return false;
  const std::lock_guard lock(mutex_);
  auto& kept = kept_[record.name.str()];
  auto all = kept.variables ? *kept.variables : std::map<std::string, std::string>();
  for (const auto& name : secret_variables(record.egress_secrets))
    if (const auto found = variables.find(name); found != variables.end()) all.insert_or_assign(name, found->second);
  if (kept.variables ? all == *kept.variables : all.empty()) return false;
  kept.variables = std::make_shared<const std::map<std::string, std::string>>(std::move(all));
  kept.values.reset();
  return true;
}

std::shared_ptr<const egress::SecretSet> SecretKeeper::set_for(const SandboxRecord& record,
                                                               const std::vector<std::string>& authorities) {
  if (!ends_tls(record)) return nullptr;
  auto set = std::make_shared<egress::SecretSet>();
  try {
    const auto holders = placeholders(record);
    for (const auto& rule : record.egress_secrets) {
      egress::SecretUse use{.name = rule.name,
                            .placeholder = holders.at(rule.name),
                            .hosts = {},
                            .headers = rule.headers,
                            .requests = {}};
      for (const auto& host : rule.hosts) use.hosts.push_back(host_rule(host));
      for (const auto& request : rule.requests) use.requests.push_back(egress::RequestRule::parse(request));
      set->uses.push_back(std::move(use));
    }
    set->decoys = decoy_values(record);
    if (!set->decoys.empty()) set->search = std::make_shared<egress::DecoySearch>(set->decoys);
    set->authority = open_authority(store_, record, proxy::AuthoritySpec::Unfit::named);
  } catch (const Error& error) {
    set->no_authority = error.message();
    log::error("secrets", "{}: {}; restart the sandbox", record.name.str(), error.what());
  }
  set->upstream = std::make_shared<const egress::UpstreamTls>(authorities);
  const std::lock_guard lock(mutex_);
  auto& kept = kept_[record.name.str()];
  if (!kept.values || kept.rules != record.egress_secrets) {
    std::vector<egress::SecretSource> sources;
    for (const auto& rule : record.egress_secrets) sources.push_back({rule.name, rule.from});
    const auto read = [variables = kept.variables](const std::string& from) {
      return egress::read_secret(from, variables ? *variables : std::map<std::string, std::string>(), home());
    };
    kept.rules = record.egress_secrets;
    kept.values = std::make_shared<egress::SecretValues>(std::move(sources), read, system_clock());
  }
  set->values = kept.values;
  return set;
}

void SecretKeeper::end(const SandboxName& name) {
  const std::lock_guard lock(mutex_);
  if (const auto found = kept_.find(name.str()); found != kept_.end()) found->second.values.reset();
}

void SecretKeeper::forget(const SandboxName& name) {
  const std::lock_guard lock(mutex_);
  kept_.erase(name.str());
}

/// One for each of `names`, in hex: made where there is none yet, and then kept for the sandbox's life.
std::map<std::string, std::string> SecretKeeper::random_parts(const SandboxRecord& record, const char* file,
                                                              const std::vector<std::string>& names,
                                                              std::size_t bytes) const {
  const std::lock_guard lock(files_);
  const auto path = store_.folder(record.name) / file;
  const auto text = read_file_if_exists(path, file_limit_bytes);
  auto json = text ? parse_json(*text, path.string()) : Json::object();
  bool changed = false;
  std::map<std::string, std::string> result;
  for (const auto& name : names) {
    auto& random = result[name] = value_or<std::string>(json, name, "");
    if (!random.empty()) continue;
    json[name] = random = random_hex(bytes);
    changed = true;
  }
  if (changed) write_file_atomic(path, json.dump(2) + "\n", 0600);
  return result;
}

/// By name, in their shape.
std::map<std::string, std::string> SecretKeeper::placeholders(const SandboxRecord& record) const {
  std::vector<std::string> names;
  for (const auto& rule : record.egress_secrets) names.push_back(rule.name);
  auto result = random_parts(record, sandbox_files::placeholders, names, placeholder_bytes);
  for (const auto& rule : record.egress_secrets) result[rule.name] = shaped(rule, result[rule.name]);
  return result;
}

std::vector<egress::Decoy> SecretKeeper::decoy_values(const SandboxRecord& record) const {
  std::vector<egress::Decoy> decoys;
  if (!uses_decoys(record)) return decoys;
  const auto seeds = random_parts(record, sandbox_files::decoys, record.decoys, decoy_seed_bytes);
  for (const auto& name : record.decoys) {
    const auto& kind = find_decoy_kind(name);
    egress::Decoy decoy{.name = name, .values = agentvm::decoy_values(kind, bytes_of(seeds.at(name))), .hosts = {}};
    for (const auto host : kind.hosts) decoy.hosts.push_back(egress::HostRule::parse(host, "decoys"));
    decoys.push_back(std::move(decoy));
  }
  return decoys;
}

std::vector<SecretKeeper::DecoyFile> SecretKeeper::decoys(const SandboxRecord& record) const {
  std::vector<DecoyFile> files;
  for (const auto& decoy : decoy_values(record)) {
    const auto& kind = find_decoy_kind(decoy.name);
    files.push_back({std::string(kind.file), decoy_content(kind, decoy.values)});
  }
  return files;
}

std::vector<std::string> SecretKeeper::environment(const SandboxRecord& record) {
  std::vector<std::string> lines;
  if (!uses_secrets(record)) return lines;
  const auto holders = placeholders(record);
  for (const auto& rule : record.egress_secrets) lines.push_back(rule.variable + "=" + holders.at(rule.name));
  return lines;
}

std::string SecretKeeper::authority(const SandboxRecord& record) const {
  if (!ends_tls(record)) return "";
  return read_file(open_authority(store_, record, proxy::AuthoritySpec::Unfit::named)->certificate_file());
}

Json SecretKeeper::status(const SandboxRecord& record) const {
  std::map<std::string, egress::SecretValues::State> states;
  {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.find(record.name.str());
    if (found != kept_.end() && found->second.values) states = found->second.values->states();
  }
  auto result = Json::array();
  for (const auto& rule : record.egress_secrets) {
    const auto& state = states[rule.name];
    result.push_back({{"name", rule.name},
                      {"hosts", rule.hosts},
                      {"env", rule.variable},
                      {"source", secret_source(rule)},
                      {"state", to_string(state.kind)},
                      {"problem", state.problem},
                      {"last_use", state.last_use > 0 ? Json(format_time(state.last_use)) : Json()}});
  }
  return result;
}

bool SecretKeeper::may_tell(const std::string& sandbox) {
  const auto now = system_clock().steady();
  const std::lock_guard lock(mutex_);
  auto& told = kept_[sandbox].told;
  if (told && now - *told < tell_again) return false;
  told = now;
  return true;
}

std::vector<std::string> secret_variables(const std::vector<SecretRule>& rules) {
  std::vector<std::string> names;
  for (const auto& rule : rules)
    if (secret_source(rule) == "env") names.push_back(rule.from.substr(rule.from.find(':') + 1));
  return names;
}

Json secrets_plan(const std::vector<SecretRule>& rules, const egress::EgressPolicy& policy,
                  std::vector<std::string>& warnings) {
  auto result = Json::array();
  for (const auto& rule : rules) {
    result.push_back({{"name", rule.name},
                      {"hosts", rule.hosts},
                      {"env", rule.variable},
                      {"header", rule.headers},
                      {"requests", rule.requests},
                      {"source", secret_source(rule)}});
    for (const auto& text : rule.hosts) {
      const auto host = host_rule(text);
      if (!policy.decide(host.subdomains ? "any." + host.host : host.host, *host.port).allowed)
        warnings.push_back(fmt::format("egress.secrets: {} is for {}, which no rule allows", rule.name, text));
    }
  }
  return result;
}

}  // namespace agentvm::manager
