#include "vmm/secrets.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "vmm/config/values.hpp"

namespace agentvm {
namespace {

constexpr std::size_t secret_limit = 64, host_limit = 32, header_limit = 8, project_limit = 64, request_limit = 64;
constexpr std::size_t source_limit_bytes = 4096, shape_limit_bytes = 128, header_name_limit_bytes = 64,
                      request_limit_bytes = 512;
constexpr std::string_view fields = "hosts, from, header, env, shape, requests and projects";
constexpr std::string_view kinds[] = {"env", "file", "command"};

/// Of one entry; knows where it stands.
class EntryReader {
 public:
  EntryReader(const YamlNode::Entry& entry) : entry_(entry) {}

  SecretRule read() {
    if (!is_variable_name(entry_.key)) refuse(entry_.key_mark, quote_foreign(entry_.key) + " is no name of a variable");
    SecretRule rule{.name = entry_.key,
                    .hosts = {},
                    .from = {},
                    .headers = {"Authorization"},
                    .variable = entry_.key,
                    .shape = "{}",
                    .requests = {},
                    .projects = {}};
    if (const auto* known = find_known_secret(entry_.key)) rule = *known;
    if (entry_.value.kind == YamlNode::Kind::mapping)
      for (const auto& [key, key_mark, value] : entry_.value.entries) read_field(rule, key, key_mark, value);
    else if (entry_.value.kind == YamlNode::Kind::scalar && !rule.hosts.empty())
      rule.from = source(entry_.value);
    else
      refuse(entry_.value.mark, fmt::format("expected a mapping with {}", fields));
    if (rule.hosts.empty()) refuse(entry_.value.mark, "'hosts' is missing: which names get it?");
    if (rule.from.empty())
      refuse(entry_.value.mark, "'from' is missing: env:VARIABLE, file:PATH or command:WORDS say where it comes from");
    return rule;
  }

 private:
  [[noreturn]] void refuse(YamlMark mark, const std::string& why) const {
    throw PartError(mark, fmt::format("{}: {}", quote_foreign(entry_.key), why));
  }

  void read_field(SecretRule& rule, const std::string& key, YamlMark key_mark, const YamlNode& value) const {
    if (key == "hosts")
      rule.hosts = texts(value, host_limit, [this](const YamlNode& node) { return host(node); });
    else if (key == "from")
      rule.from = source(value);
    else if (key == "header")
      rule.headers = texts(value, header_limit, [this](const YamlNode& node) { return header(node); });
    else if (key == "env")
      rule.variable = variable(value);
    else if (key == "shape")
      rule.shape = shape(value);
    else if (key == "requests")
      rule.requests = texts(value, request_limit, [this](const YamlNode& node) { return request(node); });
    else if (key == "projects")
      rule.projects = texts(value, project_limit, [this](const YamlNode& node) { return folder(node); });
    else
      refuse(key_mark, fmt::format("unknown field {}; there are {}", quote_foreign(key), fields));
  }

  const std::string& scalar(const YamlNode& node) const {
    if (node.kind != YamlNode::Kind::scalar || node.scalar.empty()) refuse(node.mark, "expected a text");
    return node.scalar;
  }

  template <class Read>
  std::vector<std::string> texts(const YamlNode& node, std::size_t limit, Read read) const {
    if (node.kind != YamlNode::Kind::sequence) return {read(node)};
    if (node.items.empty()) refuse(node.mark, "the list is empty");
    if (node.items.size() > limit) refuse(node.mark, fmt::format("the list has more than {} entries", limit));
    std::vector<std::string> result;
    for (const auto& item : node.items) result.push_back(read(item));
    return result;
  }

  std::string host(const YamlNode& node) const {
    std::string text;
    try {
      text = parse_config_host(scalar(node));
    } catch (const PartError&) {
      throw;
    } catch (const Error& error) {
      refuse(node.mark, error.message());
    }
    const auto name = text.substr(0, text.find(':'));
    const auto last = name.substr(name.rfind('.') + 1);
    // Certificates, and the authority's limits, are about names.
    if (text.starts_with('[') || last.find_first_not_of("0123456789") == last.npos)
      refuse(node.mark, fmt::format("{} is an address: secrets are for names", quote_foreign(text)));
    return text;
  }

  /// Never quoted: whoever writes the secret itself here must not read it in a message.
  std::string source(const YamlNode& node) const {
    const auto& text = scalar(node);
    const auto colon = text.find(':');
    const auto kind = text.substr(0, colon);
    if (colon == text.npos || std::find(std::begin(kinds), std::end(kinds), kind) == std::end(kinds))
      refuse(node.mark, "'from' is env:VARIABLE, file:PATH or command:WORDS; the secret itself does not belong here");
    const auto rest = text.substr(colon + 1);
    const bool plain = std::none_of(rest.begin(), rest.end(),
                                    [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
    if (rest.empty() || text.size() > source_limit_bytes || !plain)
      refuse(node.mark, fmt::format("what stands behind '{}:' is empty, too long, or has control characters", kind));
    if (kind == "env" && !is_variable_name(rest)) refuse(node.mark, "behind 'env:' stands the name of a variable");
    if (kind == "file" && !rest.starts_with('/') && !rest.starts_with("~/"))
      refuse(node.mark, "behind 'file:' stands an absolute path, or one from ~/");
    return text;
  }

  std::string header(const YamlNode& node) const {
    constexpr std::string_view marks = "!#$%&'*+-.^_`|~";
    const auto& text = scalar(node);
    const bool good = text.size() <= header_name_limit_bytes && std::all_of(text.begin(), text.end(), [&](char c) {
                        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                               marks.find(c) != marks.npos;
                      });
    if (!good) refuse(node.mark, quote_foreign(text) + " is not the name of a header, such as x-api-key");
    return text;
  }

  std::string variable(const YamlNode& node) const {
    const auto& text = scalar(node);
    if (!is_variable_name(text)) refuse(node.mark, quote_foreign(text) + " is no name of a variable");
    return text;
  }

  /// It stands in settings of the guest's shells and services, quoted by nobody.
  std::string shape(const YamlNode& node) const {
    constexpr std::string_view marks = "-._~+/=";
    const auto& text = scalar(node);
    const auto at = text.find("{}");
    bool good = at != text.npos && text.size() <= shape_limit_bytes;
    for (std::size_t i = 0; good && i < text.size(); ++i)
      good = (i == at || i == at + 1) || (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
             (text[i] >= '0' && text[i] <= '9') || marks.find(text[i]) != marks.npos;
    if (!good)
      refuse(node.mark, quote_foreign(text) + " is not {} once among letters, digits and -._~+/=, as in sk-ant-{}");
    return text;
  }

  /// "METHODS PATH": methods in capitals with commas between, or *; a path from / or *, of what stands in a request.
  std::string request(const YamlNode& node) const {
    const auto& text = scalar(node);
    const auto space = text.find(' ');
    const auto methods = text.substr(0, space), path = space == text.npos ? "" : text.substr(space + 1);
    const bool named = methods == "*" || std::all_of(methods.begin(), methods.end(),
                                                     [](char c) { return (c >= 'A' && c <= 'Z') || c == ','; });
    const bool listed =
        !methods.empty() && !methods.starts_with(',') && !methods.ends_with(',') && methods.find(",,") == methods.npos;
    const bool plain = std::none_of(path.begin(), path.end(), [](char c) {
      const auto byte = static_cast<unsigned char>(c);
      return byte <= 0x20 || byte >= 0x7f || c == '?' || c == '#';
    });
    if (!named || !listed || !plain || text.size() > request_limit_bytes ||
        !(path.starts_with('/') || path.starts_with('*')))
      refuse(node.mark,
             quote_foreign(text) + " is not methods and a path, as in 'GET,HEAD /repos/*' or '* /v1/messages'");
    return text;
  }

  std::string folder(const YamlNode& node) const {
    const auto& text = scalar(node);
    if (!text.starts_with('/') && !text.starts_with("~/"))
      refuse(node.mark, quote_foreign(text) + " is no absolute path, nor one from ~/");
    return text;
  }

  const YamlNode::Entry& entry_;
};

}  // namespace

Json parse_secrets(const YamlNode& node) {
  if (node.kind != YamlNode::Kind::mapping)
    throw Error(ErrorCode::usage, fmt::format("expected a mapping of NAME to {}", fields));
  if (node.entries.size() > secret_limit)
    throw Error(ErrorCode::usage, fmt::format("there are more than {}", secret_limit));
  std::vector<SecretRule> rules;
  std::set<std::string> variables;
  for (const auto& entry : node.entries) {
    rules.push_back(EntryReader(entry).read());
    if (!variables.insert(rules.back().variable).second)
      throw PartError(entry.key_mark, fmt::format("{}: the variable {} is another's already", quote_foreign(entry.key),
                                                  rules.back().variable));
  }
  return to_json(rules);
}

std::string secret_source(const SecretRule& rule) {
  return rule.from.substr(0, rule.from.find(':'));
}

Json to_json(const SecretRule& rule) {
  return {{"name", rule.name},    {"hosts", rule.hosts}, {"from", rule.from},         {"header", rule.headers},
          {"env", rule.variable}, {"shape", rule.shape}, {"requests", rule.requests}, {"projects", rule.projects}};
}

Json to_json(const std::vector<SecretRule>& rules) {
  auto json = Json::array();
  for (const auto& rule : rules) json.push_back(to_json(rule));
  return json;
}

std::vector<SecretRule> secret_rules(const Json& value) {
  if (value.is_null()) return {};
  if (!value.is_array()) throw Error(ErrorCode::operation_failed, "key 'egress_secrets' has the wrong type");
  std::vector<SecretRule> rules;
  for (const auto& each : value)
    rules.push_back({.name = require<std::string>(each, "name"),
                     .hosts = require<std::vector<std::string>>(each, "hosts"),
                     .from = require<std::string>(each, "from"),
                     .headers = require<std::vector<std::string>>(each, "header"),
                     .variable = require<std::string>(each, "env"),
                     .shape = require<std::string>(each, "shape"),
                     .requests = value_or<std::vector<std::string>>(each, "requests", {}),
                     .projects = require<std::vector<std::string>>(each, "projects")});
  return rules;
}

}  // namespace agentvm
