#pragma once
// Configuration: one table of keys, five layers, and where each value came from.
//
// Job: flags > environment > agentvm.yaml at the repository's root > the user's file > defaults, resolved into one
// `Config` in which every value knows its origin; help, reference, JSON schema and the options of `start` come from the
// same table. Not its job: deciding on values that depend on the host (`vmm/plan.hpp`), keeping trust
// (`vmm/trust.hpp`). Flow: texts in, `Config` out; nothing here reads a file or the environment except the two
// functions that say so. The project's file may have been committed by a guest: its text is hostile (quoted cleaned),
// its widening keys count only with the user's trust and its host-executing keys are refused. Threads: values and pure
// functions only.

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/json.hpp"
#include "vmm/base/sizes.hpp"
#include "vmm/base/yaml.hpp"

namespace agentvm {

enum class KeyType {
  text,
  name,         ///< a sandbox name
  branch,       ///< a git branch
  image,        ///< an image's name or the path of a recipe
  size,         ///< bytes, written 8G
  count,        ///< a whole number
  boolean,      ///< true or false; its flag also exists as `--no-<flag>`
  choice,       ///< one of `choices`
  hosts,        ///< a list of host[:port] and *.domain[:port]
  grants,       ///< a list of host:port
  proxy,        ///< direct, environment or http://host:port
  choices,      ///< a list of some of the key's `choices`
  globs,        ///< a list of path patterns, as in .gitignore
  variables,    ///< a list of names of variables; a last * stands for any end
  assignments,  ///< a list of NAME=VALUE
  caps,         ///< a list of "HOST NUMBER UNIT/SPAN"
  secrets,      ///< a mapping of names to what is known of a secret; see vmm/secrets.hpp
  levels,       ///< log levels, `sync:debug,*:info`
};

/// What a key may do to the host when somebody else writes it.
enum class KeyClass {
  harmless,
  widening,        ///< gives the guest more: counts in the project's file only with the user's trust
  host_executing,  ///< runs something or picks who does: refused in the project's file
};
constexpr bool is_list(KeyType type) {
  return type == KeyType::hosts || type == KeyType::grants || type == KeyType::choices || type == KeyType::globs ||
         type == KeyType::variables || type == KeyType::assignments || type == KeyType::caps;
}
std::string_view to_string(KeyType type);
std::string_view to_string(KeyClass key_class);

struct ConfigKey {
  std::string_view name;  ///< "workspace.mode"; dots are levels in YAML
  KeyType type;
  std::string_view default_value;  ///< as text; empty = unset, false or an empty list
  std::string_view flag;           ///< "--workspace"; empty = none
  std::string_view variable;       ///< "AGENTVM_MEMORY"; empty = none
  KeyClass key_class;
  std::string_view choices;  ///< `choice`, a list of `choices`: "virtiofs|disk"; `size` and `count`: "lowest|highest"
  std::string_view help;     ///< one line, no full stop
  bool adds_up = false;      ///< a list to which every place adds; without it a stronger place replaces a weaker one
};

/// Every key that works, in the order of the reference.
std::span<const ConfigKey> config_keys();
/// nullptr for an unknown name.
const ConfigKey* find_config_key(std::string_view name);
/// The key whose name is nearest by edit distance; nullptr when none is near enough to be meant.
const ConfigKey* nearest_config_key(std::string_view name);

enum class ConfigLayer { flag, environment, project, user, default_value, derived };
std::string_view to_string(ConfigLayer layer);

/// Where a value came from.
struct Origin {
  ConfigLayer layer = ConfigLayer::default_value;
  std::string source;  ///< the flag, the variable, the file, or what it was derived from
  YamlMark mark;       ///< for files
  /// "--memory", "AGENTVM_MEMORY", "/repo/agentvm.yaml:3:9", "default".
  std::string str() const;
  Json to_json() const;
};

struct ConfigFile {
  std::filesystem::path path;
  std::string text;
};

/// Whether the user allows a value that stands in the project's file.
enum class Trust {
  none,
  changed,  ///< they allowed another one
  given,
};
using TrustLookup = std::function<Trust(const ConfigKey& key, const Json& value)>;

/// Everything a configuration is made from.
struct ConfigInput {
  std::map<std::string, std::string> flags;        ///< key name -> text, only those given ("true"/"false" for booleans)
  std::map<std::string, std::string> environment;  ///< variable -> text; empty texts count as unset
  std::optional<ConfigFile> project, user;
  TrustLookup trust;  ///< for widening keys of the project's file; unset: none counts
};

class Config {
 public:
  struct Value {
    Json value;  ///< string, number (sizes in bytes), boolean, array of strings, or null when unset
    Origin origin;
  };
  /// `key` must be in the table.
  const Value& at(std::string_view key) const;
  std::string text(std::string_view key) const;  ///< "" when unset
  ByteSize size(std::string_view key) const;
  unsigned count(std::string_view key) const;
  bool enabled(std::string_view key) const;
  std::vector<std::string> list(std::string_view key) const;
  /// What was left out and why, for standard error.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  friend class ConfigResolver;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<std::string> warnings_;
};

/// Throws `usage` with "file:line:column" (or the flag's or variable's name) for an unknown key, a wrong type or value;
/// `decision_needed` for a host-executing key in the project's file.
Config resolve_config(const ConfigInput& input);

/// A widening key that a project's file sets.
struct WideningValue {
  const ConfigKey* key;
  Json value;
  YamlMark mark;
};
/// In the file's order. Throws what `resolve_config` throws for such a file.
std::vector<WideningValue> widening_values(const ConfigFile& project);

/// Reads a configuration file: nothing when it is absent; throws `usage` when it is no regular file (a pipe would
/// block) or above 1 MiB.
std::optional<ConfigFile> read_config_file(const std::filesystem::path& path);
/// The variables of the table (and AGENTVM_BACKEND) that are set in this process: what a client sends to its manager.
std::map<std::string, std::string> config_environment();

/// Whether one of `patterns` (of `KeyType::variables`) means the variable `name`.
bool names_variable(std::span<const std::string> patterns, std::string_view name);
/// What an agent program gets, from the keys env.pass, env.set and env.deny: of several values the one set counts, then
/// the passed one, and what is denied nobody gets. `host`: variables of the client, whichever were sent; `more`: what
/// env.commands and env.files say.
std::map<std::string, std::string> agent_environment(const Config& config,
                                                     const std::map<std::string, std::string>& host,
                                                     const std::map<std::string, std::string>& more);
/// A .env file: NAME=VALUE lines, with `export` or without, comments, 'raw' and "escaped" values that may go on over
/// lines. Nothing is expanded. Throws `usage` with "file:line: reason", never with the text.
std::map<std::string, std::string> parse_dotenv(std::string_view text, const std::string& file);

/// Whether an `image` is the path of a recipe (has a '/' or ends in .yaml or .yml) rather than a name.
bool image_is_recipe(std::string_view text);
/// The text of a value as a person writes it: "8G", "true", "a.example, b.example"; "-" when unset.
std::string config_value_text(const ConfigKey& key, const Json& value);
/// `{schema: "agentvm.config/1", keys: [{name, value, origin, class, type, default, flag, variable, help}], warnings}`;
/// `text` besides, where a value is a mapping.
Json config_json(const Config& config);
/// A JSON Schema (2020-12) of agentvm.yaml and config.yaml.
Json config_schema();
/// docs/reference/configuration.md.
std::string configuration_reference_markdown();

}  // namespace agentvm
