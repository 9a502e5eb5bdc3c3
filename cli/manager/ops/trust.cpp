#include "cli/manager/ops/trust.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/requests.hpp"
#include "guest/image/recipe.hpp"
#include "vmm/plan.hpp"

namespace agentvm::manager {
namespace {

constexpr std::string_view project_file = "agentvm.yaml";

std::string_view state_text(Trust trust) {
  return trust == Trust::given ? "trusted" : trust == Trust::changed ? "changed" : "new";
}

/// What a recipe would put into an image; a broken one is not worth trusting.
Json recipe_json(const fs::path& path) {
  const auto file = read_config_file(path);
  if (!file) throw Error(ErrorCode::not_found, fmt::format("{}: there is no such recipe", path.string()));
  const auto recipe = parse_recipe(file->text, path.string());
  return {{"path", path.string()},       {"suite", recipe.suite},
          {"kernel", recipe.kernel},     {"disk_bytes", recipe.disk.bytes()},
          {"packages", recipe.packages}, {"mask", recipe.mask}};
}

Json in_force_json(const ConfigKey& key, const Config& config) {
  const auto& [value, origin] = config.at(key.name);
  return {{"value", value}, {"text", config_value_text(key, value)}, {"origin", origin.to_json()}};
}

struct ProjectRequest {
  fs::path root;
  ConfigInput input;
};

ProjectRequest read_project(Core& core, const Json& params) {
  const auto setting = read_client_setting(params);
  ProjectRequest request{find_project(setting.path).root, {}};
  request.input.environment = setting.environment;
  request.input.user = read_config_file(core.paths().config_file);
  request.input.project = read_config_file(request.root / project_file);
  request.input.trust = core.trust().lookup(request.root);
  return request;
}

Json show(Core& core, const Json& params) {
  const auto [root, input] = read_project(core, params);
  Json result{{"schema", "agentvm.trust/1"},
              {"project", root.string()},
              {"file", (root / project_file).string()},
              {"keys", Json::array()}};
  const auto config = resolve_config(input);
  for (const auto& [key, value, mark] :
       input.project ? widening_values(*input.project) : std::vector<WideningValue>{}) {
    Json row{{"name", key->name},
             {"value", value},
             {"text", config_value_text(*key, value)},
             {"origin", Origin{ConfigLayer::project, input.project->path.string(), mark}.to_json()},
             {"state", state_text(input.trust(*key, value))},
             {"digest", trust_digest(*key, value, root)},
             {"in_force", in_force_json(*key, config)},
             {"help", key->help}};
    if (key->type == KeyType::image && image_is_recipe(value.get<std::string>()))
      row["recipe"] = recipe_json(project_recipe(value, root));
    result["keys"].push_back(std::move(row));
  }
  return result;
}

Json set(Core& core, const Json& params) {
  const auto shown = require<TrustedDigests>(params, "digests");
  const auto current = show(core, params);
  TrustedDigests now;
  for (const auto& row : current["keys"]) now[require<std::string>(row, "name")] = require<std::string>(row, "digest");
  // Whoever writes the file must not gain by writing it while somebody reads what it said.
  if (now != shown)
    throw Error(
        ErrorCode::decision_needed,
        fmt::format("{} changed while it was shown; nothing was trusted", require<std::string>(current, "file")),
        "agentvm trust " + require<std::string>(current, "project"));
  core.trust().write(require<std::string>(current, "project"), now);
  return show(core, params);
}

Json remove(Core& core, const Json& params) {
  const auto root = find_project(read_client_setting(params).path).root;
  const bool removed = core.trust().remove(root);
  std::vector<std::string> running;
  for (const auto& record : core.store().find_by_project(root))
    if (record.state == SandboxState::running || record.state == SandboxState::paused)
      running.push_back(record.name.str());
  return {{"schema", "agentvm.trust-remove/1"}, {"project", root.string()}, {"removed", removed}, {"running", running}};
}

}  // namespace

void add_trust_operations(Service& service, const std::shared_ptr<Core>& core) {
  service.add("trust.show", Lane::quick, [core](CallContext&, const Json& params) { return show(*core, params); });
  service.add("trust.set", Lane::quick, [core](CallContext&, const Json& params) { return set(*core, params); });
  service.add("trust.remove", Lane::quick, [core](CallContext&, const Json& params) { return remove(*core, params); });
}

}  // namespace agentvm::manager
