#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm/config.hpp"
#include "vmm/config/values.hpp"
#include "vmm/secrets.hpp"

namespace agentvm {

std::string Origin::str() const {
  switch (layer) {
    case ConfigLayer::project:
    case ConfigLayer::user:
      return agentvm::at(source, mark);
    case ConfigLayer::default_value:
      return "default";
    default:
      return source;
  }
}

Json Origin::to_json() const {
  Json json{{"layer", to_string(layer)}};
  if (layer == ConfigLayer::project || layer == ConfigLayer::user) {
    json["file"] = source;
    json["line"] = mark.line;
    json["column"] = mark.column;
  } else if (!source.empty()) {
    json["source"] = source;
  }
  return json;
}

const Config::Value& Config::at(std::string_view key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) throw Error(ErrorCode::operation_failed, fmt::format("no configuration key '{}'", key));
  return found->second;
}

std::string Config::text(std::string_view key) const {
  const auto& value = at(key).value;
  return value.is_string() ? value.get<std::string>() : "";
}
ByteSize Config::size(std::string_view key) const {
  return ByteSize(at(key).value.get<std::uint64_t>());
}
unsigned Config::count(std::string_view key) const {
  return at(key).value.get<unsigned>();
}
bool Config::enabled(std::string_view key) const {
  return at(key).value.get<bool>();
}
std::vector<std::string> Config::list(std::string_view key) const {
  return at(key).value.get<std::vector<std::string>>();
}

namespace {
/// "API_KEY for api.example.org, *.example.net".
std::string secrets_text(const Json& value) {
  std::string text;
  for (const auto& rule : secret_rules(value))
    text += fmt::format("{}{} for {}", text.empty() ? "" : "; ", rule.name, fmt::join(rule.hosts, ", "));
  return text;
}
}  // namespace

std::string config_value_text(const ConfigKey& key, const Json& value) {
  if (value.is_null() || (value.is_array() && value.empty())) return "-";
  if (key.type == KeyType::size) return ByteSize(value.get<std::uint64_t>()).str();
  if (key.type == KeyType::secrets) return secrets_text(value);
  if (value.is_array()) return fmt::format("{}", fmt::join(value.get<std::vector<std::string>>(), ", "));
  if (value.is_string()) return value.get<std::string>();
  return value.dump();
}

namespace {
Json default_json(const ConfigKey& key) {
  if (is_list(key.type)) return parse_config_text(key, key.default_value);
  return key.default_value.empty() ? Json() : parse_config_text(key, key.default_value);
}

/// "virtiofs|disk" -> "`virtiofs`, `disk`".
std::string choices_text(const ConfigKey& key) {
  std::string result;
  for (const char c : key.choices) result += c == '|' ? std::string("`, `") : std::string(1, c);
  return "`" + result + "`";
}

std::string type_text(const ConfigKey& key) {
  const auto bar = key.choices.find('|');
  switch (key.type) {
    case KeyType::choice:
      return choices_text(key);
    case KeyType::size:
    case KeyType::count:
      return fmt::format("{}, {} to {}", to_string(key.type), key.choices.substr(0, bar), key.choices.substr(bar + 1));
    case KeyType::hosts:
      return "list of `host[:port]`";
    case KeyType::grants:
      return "list of `host:port`";
    case KeyType::proxy:
      return "`direct`, `environment`, `http://host:port`";
    case KeyType::choices:
      return fmt::format("list of {}", choices_text(key));
    case KeyType::globs:
      return "list of path patterns";
    case KeyType::variables:
      return "list of names";
    case KeyType::assignments:
      return "list of `NAME=VALUE`";
    case KeyType::caps:
      return "list of `host[:port] number unit/span`";
    case KeyType::secrets:
      return "mapping of names";
    default:
      return std::string(to_string(key.type));
  }
}

std::string flag_text(const ConfigKey& key) {
  if (key.flag.empty()) return "";
  return key.type == KeyType::boolean ? fmt::format("`{}`, `--no-{}`", key.flag, key.flag.substr(2))
                                      : fmt::format("`{}`", key.flag);
}
}  // namespace

Json config_json(const Config& config) {
  auto rows = Json::array();
  for (const auto& key : config_keys()) {
    const auto& [value, origin] = config.at(key.name);
    Json row{{"name", key.name},
             {"value", value},
             {"origin", origin.to_json()},
             {"class", to_string(key.key_class)},
             {"type", to_string(key.type)},
             {"default", default_json(key)}};
    if (key.type == KeyType::secrets) row["text"] = config_value_text(key, value);
    row["flag"] = key.flag.empty() ? Json() : Json(key.flag);
    row["variable"] = key.variable.empty() ? Json() : Json(key.variable);
    row["help"] = key.help;
    rows.push_back(std::move(row));
  }
  return {{"schema", "agentvm.config/1"}, {"keys", std::move(rows)}, {"warnings", config.warnings()}};
}

namespace {
Json choices_json(const ConfigKey& key) {
  auto choices = Json::array();
  for (std::string_view rest = key.choices; !rest.empty();) {
    const auto end = std::min(rest.find('|'), rest.size());
    choices.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return choices;
}

Json secrets_schema() {
  const Json text{{"type", "string"}};
  const Json texts{{"anyOf", Json::array({text, Json{{"type", "array"}, {"minItems", 1}, {"items", text}}})}};
  const Json request{{"type", "string"}, {"pattern", "^([*]|[A-Z]+(,[A-Z]+)*) [/*][^ ?#]*$"}};
  const Json requests{{"anyOf", Json::array({request, Json{{"type", "array"}, {"minItems", 1}, {"items", request}}})}};
  const Json source{{"type", "string"}, {"pattern", "^(env|file|command):."}};
  Json entry{{"type", "object"}, {"additionalProperties", false}, {"required", {"hosts", "from"}}};
  entry["properties"] = {{"hosts", texts},
                         {"from", source},
                         {"header", texts},
                         {"env", {{"type", "string"}, {"pattern", "^[A-Za-z_][A-Za-z0-9_]*$"}}},
                         {"shape", {{"type", "string"}, {"pattern", "^[A-Za-z0-9._~+/=-]*[{][}][A-Za-z0-9._~+/=-]*$"}}},
                         {"requests", requests},
                         {"projects", texts}};
  auto known = entry;
  known["required"] = {"from"};
  Json schema{{"type", "object"}, {"additionalProperties", entry}, {"properties", Json::object()}};
  schema["propertyNames"] = {{"pattern", "^[A-Za-z_][A-Za-z0-9_]*$"}};
  for (const auto& rule : known_secrets()) schema["properties"][rule.name] = {{"anyOf", Json::array({source, known})}};
  return schema;
}

Json key_schema(const ConfigKey& key) {
  Json schema{{"description", key.help}};
  switch (key.type) {
    case KeyType::boolean:
      schema["type"] = "boolean";
      break;
    case KeyType::count: {
      const auto bar = key.choices.find('|');
      schema["type"] = "integer";
      schema["minimum"] = std::stoi(std::string(key.choices.substr(0, bar)));
      schema["maximum"] = std::stoi(std::string(key.choices.substr(bar + 1)));
      break;
    }
    case KeyType::size:
      schema["type"] = Json::array({"string", "integer"});
      schema["pattern"] = "^[0-9]+(\\.[0-9]+)?([KMGTPkmgtp](iB|B)?)?$";
      break;
    case KeyType::choice:
      schema["enum"] = choices_json(key);
      break;
    case KeyType::choices:
      schema["type"] = "array";
      schema["items"] = {{"enum", choices_json(key)}};
      break;
    case KeyType::variables:
    case KeyType::assignments:
      schema["type"] = "array";
      schema["items"] = {{"type", "string"},
                         {"pattern", key.type == KeyType::variables ? "^[A-Za-z_][A-Za-z0-9_]*[*]?$"
                                                                    : "^[A-Za-z_][A-Za-z0-9_]*=[^\\u0000]*$"}};
      break;
    case KeyType::caps:
      schema["type"] = "array";
      schema["items"] = {{"type", "string"},
                         {"pattern",
                          "^[^ ]+ +(([1-9][0-9]{0,5}[kM]|[1-9][0-9]{0,11}) +(requests|tokens)|"
                          "([1-9][0-9]{0,5}[KMGT]|[1-9][0-9]{0,11}) +bytes)/(minute|hour|day)$"}};
      break;
    case KeyType::hosts:
    case KeyType::grants:
    case KeyType::globs:
      schema["type"] = "array";
      schema["items"] = {{"type", "string"}};
      break;
    case KeyType::secrets:
      schema.update(secrets_schema());
      break;
    case KeyType::proxy:
      schema["type"] = "string";
      schema["pattern"] = "^(direct|environment|http://[^@/]+/?)$";
      break;
    case KeyType::name:
      schema["type"] = "string";
      schema["pattern"] = "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$";
      break;
    default:
      schema["type"] = "string";
  }
  if (const auto fallback = default_json(key); !fallback.is_null())
    schema["default"] = key.type == KeyType::size ? Json(key.default_value) : fallback;
  return schema;
}
}  // namespace

Json config_schema() {
  auto properties = Json::object();
  for (const auto& key : config_keys()) {
    // Dots are levels, but `workspace.mode: disk` in one line means the same.
    auto* place = &properties;
    std::string_view rest = key.name;
    for (auto dot = rest.find('.'); dot != rest.npos; dot = rest.find('.')) {
      auto& section = (*place)[std::string(rest.substr(0, dot))];
      section["type"] = Json::array({"object", "null"});
      section["additionalProperties"] = false;
      place = &section["properties"];
      (*place)[std::string(rest.substr(dot + 1))] = key_schema(key);
      rest.remove_prefix(dot + 1);
    }
    properties[std::string(key.name)] = key_schema(key);
  }
  return {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
          {"title", "agentvm configuration"},
          {"type", Json::array({"object", "null"})},
          {"additionalProperties", false},
          {"properties", std::move(properties)}};
}

std::string configuration_reference_markdown() {
  std::string text =
      "# Configuration\n\n"
      "Generated from the table of keys in `vmm/config/keys.cpp`; a test fails when this file differs.\n\n"
      "A value comes from the first of these that has one: flag, environment variable, `agentvm.yaml` at the root of "
      "the repository, your own\n"
      "file (`~/.config/agentvm/config.yaml`), default. A list in a stronger place replaces the weaker one, but for "
      "`egress.allow`, `egress.deny` and\n"
      "`egress.grants`, to which every place adds. `agentvm config show` prints each value with its origin, `agentvm "
      "plan` what a start would use.\n\n"
      "The project's file may have been written by a guest, so each key has a class. *harmless* keys count everywhere. "
      "*widening* keys give\n"
      "the guest more; in the project's file they count once you allowed that value with `agentvm trust`, and until "
      "then are ignored with a\n"
      "warning. *host-executing* keys decide what runs on the host; in the project's file they are an error.\n\n"
      "Dots are levels: `workspace.mode` is written `workspace: {mode: disk}` or `workspace.mode: disk`.\n\n"
      "| key | type | default | flag | variable | class | meaning |\n|-|-|-|-|-|-|-|\n";
  for (const auto& key : config_keys())
    text +=
        fmt::format("| `{}` | {} | {} | {} | {} | {} | {} |\n", key.name, type_text(key),
                    key.default_value.empty() ? "" : fmt::format("`{}`", key.default_value), flag_text(key),
                    key.variable.empty() ? "" : fmt::format("`{}`", key.variable), to_string(key.key_class), key.help);
  text +=
      "\nMore variables: `AGENTVM_HOME` puts configuration, state, data and sockets below one folder, `AGENTVM_CONFIG` "
      "names your own file,\n"
      "`AGENTVM_BACKEND` admits `libvirt` alone, `NO_COLOR` turns colour off.\n";
  return text;
}

}  // namespace agentvm
