#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/files.hpp"
#include "vmm/config.hpp"
#include "vmm/config/values.hpp"

namespace agentvm {
namespace {

constexpr std::string_view backend_variable = "AGENTVM_BACKEND";

struct FileValue {
  const ConfigKey* key;
  Json value;
  YamlMark mark;
};

[[noreturn]] void unknown_key(const std::string& file, YamlMark mark, std::string_view path) {
  const auto* nearest = nearest_config_key(path);
  throw Error(ErrorCode::usage,
              fmt::format("{}: unknown key {}{}", at(file, mark), quote_foreign(path),
                          nearest ? fmt::format("; did you mean '{}'?", nearest->name) : ""),
              "agentvm config show");
}

bool is_section(std::string_view path) {
  const auto prefix = std::string(path) + ".";
  return std::any_of(config_keys().begin(), config_keys().end(),
                     [&](const ConfigKey& key) { return key.name.starts_with(prefix); });
}

/// Collects the values of one mapping; `workspace: {mode: disk}` and `workspace.mode: disk` mean the same.
void collect(const std::string& file, const YamlNode& node, const std::string& prefix, std::vector<FileValue>& values) {
  for (const auto& entry : node.entries) {
    const auto path = prefix + entry.key;
    const auto* key = find_config_key(path);
    if (!key && is_section(path)) {
      if (entry.value.kind == YamlNode::Kind::mapping)
        collect(file, entry.value, path + ".", values);
      else if (entry.value.kind != YamlNode::Kind::null)
        throw Error(ErrorCode::usage,
                    fmt::format("{}: '{}' is a section: expected a mapping", at(file, entry.value.mark), path));
      continue;
    }
    if (!key) unknown_key(file, entry.key_mark, path);
    for (const auto& other : values)
      if (other.key == key)
        throw Error(ErrorCode::usage, fmt::format("{}: key '{}' is given twice, first in line {}",
                                                  at(file, entry.key_mark), path, other.mark.line));
    try {
      values.push_back({key, parse_config_node(*key, entry.value), entry.value.mark});
    } catch (const PartError& error) {
      throw Error(error.code(), fmt::format("{}: {}: {}", at(file, error.mark()), key->name, error.message()));
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: {}: {}", at(file, entry.value.mark), key->name, error.message()));
    }
  }
}

/// Values travel as JSON and are trusted by their digest: bytes that are replaced on the way would make two values one.
void require_utf8(const ConfigFile& file) {
  std::string_view rest = file.text;
  for (int line = 1; !rest.empty(); ++line) {
    const auto end = std::min(rest.find('\n'), rest.size());
    try {
      (void)Json(rest.substr(0, end)).dump();
    } catch (const Json::exception&) {
      throw Error(ErrorCode::usage, at(file.path.string(), {line, 1}) + ": the line is not valid UTF-8",
                  "iconv -t UTF-8 " + file.path.string());
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

std::vector<FileValue> parse_file(const ConfigFile& file) {
  require_utf8(file);
  const auto name = file.path.string();
  const auto root = parse_yaml(file.text, name);
  if (root.kind != YamlNode::Kind::mapping && root.kind != YamlNode::Kind::null)
    throw Error(ErrorCode::usage, fmt::format("{}: expected 'key: value' lines", at(name, root.mark)));
  std::vector<FileValue> values;
  collect(name, root, "", values);
  return values;
}

[[noreturn]] void refuse_host_executing(const std::string& file, const FileValue& value) {
  throw Error(ErrorCode::decision_needed, fmt::format("{}: '{}' decides what runs on this host and is refused in "
                                                      "a project's file; it belongs into your own file",
                                                      at(file, value.mark), value.key->name));
}

/// The values of a project's file: none of them runs anything on the host.
std::vector<FileValue> parse_project(const ConfigFile& file) {
  auto values = parse_file(file);
  for (const auto& value : values)
    if (value.key->key_class == KeyClass::host_executing) refuse_host_executing(file.path.string(), value);
  return values;
}

/// Why a widening key of the project's file does not count, and what makes it count.
std::string not_trusted(const ConfigFile& file, const FileValue& value, Trust trust) {
  return fmt::format("{}: '{}' gives the guest more and {}: agentvm trust {}", at(file.path.string(), value.mark),
                     value.key->name,
                     trust == Trust::changed ? "has changed since you trusted it; it does not count until you do again"
                                             : "does not count until you trust it",
                     file.path.parent_path().string());
}

}  // namespace

/// Applies the layers from the weakest to the strongest; each overwrites what the ones before set.
class ConfigResolver {
 public:
  explicit ConfigResolver(const ConfigInput& input) : input_(input) {}

  Config resolve() {
    for (const auto& key : config_keys()) set(key, default_of(key), {ConfigLayer::default_value, "", {}});
    if (input_.user)
      for (auto& [key, value, mark] : parse_file(*input_.user))
        set(*key, std::move(value), {ConfigLayer::user, input_.user->path.string(), mark});
    if (input_.project) apply_project(*input_.project);
    apply_environment();
    apply_flags();
    return std::move(config_);
  }

 private:
  static Json default_of(const ConfigKey& key) {
    if (is_list(key.type)) return parse_config_text(key, key.default_value);
    return key.default_value.empty() ? Json() : parse_config_text(key, key.default_value);
  }

  void set(const ConfigKey& key, Json value, Origin origin) {
    if (const auto weaker = config_.values_.find(key.name); key.adds_up && weaker != config_.values_.end()) {
      auto all = weaker->second.value;
      for (auto& item : value)
        if (std::find(all.begin(), all.end(), item) == all.end()) all.push_back(std::move(item));
      value = std::move(all);
    }
    config_.values_.insert_or_assign(std::string(key.name), Config::Value{std::move(value), std::move(origin)});
  }

  void apply_project(const ConfigFile& file) {
    for (auto& value : parse_project(file)) {
      if (value.key->key_class != KeyClass::harmless) {
        const auto trust = input_.trust ? input_.trust(*value.key, value.value) : Trust::none;
        if (trust != Trust::given) {
          config_.warnings_.push_back(not_trusted(file, value, trust));
          continue;
        }
      }
      set(*value.key, std::move(value.value), {ConfigLayer::project, file.path.string(), value.mark});
    }
  }

  void apply_environment() {
    const auto value_of = [&](std::string_view variable) -> std::string {
      const auto found = input_.environment.find(std::string(variable));
      return found == input_.environment.end() ? "" : found->second;
    };
    if (const auto backend = value_of(backend_variable); !backend.empty() && backend != "libvirt")
      throw Error(ErrorCode::usage,
                  fmt::format("{}: {} is not supported: only libvirt is", backend_variable, quote_foreign(backend)),
                  fmt::format("unset {}", backend_variable));
    for (const auto& key : config_keys()) {
      if (key.variable.empty()) continue;
      const auto text = value_of(key.variable);
      if (text.empty()) continue;
      try {
        set(key, parse_config_text(key, text), {ConfigLayer::environment, std::string(key.variable), {}});
      } catch (const Error& error) {
        throw Error(error.code(), fmt::format("{}: {}", key.variable, error.message()),
                    fmt::format("unset {}", key.variable));
      }
    }
  }

  void apply_flags() {
    for (const auto& [name, text] : input_.flags) {
      const auto* key = find_config_key(name);
      if (!key)
        throw Error(ErrorCode::usage, fmt::format("unknown configuration key {}", quote_foreign(name)),
                    "agentvm config show");
      auto flag = std::string(key->flag.empty() ? key->name : key->flag);
      try {
        auto value = parse_config_text(*key, text);
        if (key->type == KeyType::boolean && value == false && flag.starts_with("--")) flag = "--no-" + flag.substr(2);
        set(*key, std::move(value), {ConfigLayer::flag, flag, {}});
      } catch (const Error& error) {
        throw Error(error.code(), fmt::format("{}: {}", flag, error.message()), error.hint());
      }
    }
  }

  const ConfigInput& input_;
  Config config_;
};

Config resolve_config(const ConfigInput& input) {
  return ConfigResolver(input).resolve();
}

std::vector<WideningValue> widening_values(const ConfigFile& project) {
  std::vector<WideningValue> result;
  for (auto& value : parse_project(project))
    if (value.key->key_class == KeyClass::widening) result.push_back({value.key, std::move(value.value), value.mark});
  return result;
}

std::optional<ConfigFile> read_config_file(const std::filesystem::path& path) {
  constexpr std::size_t limit_bytes = 1u << 20;
  // Non-blocking, because the name may be a pipe; a device or pipe is refused before a byte is read.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
  if (!fd) throw_errno(path.string());
  struct stat status {};
  check_errno(::fstat(fd.get(), &status), path.string());
  if (!S_ISREG(status.st_mode))
    throw Error(ErrorCode::usage, fmt::format("{} is not a regular file", path.string()),
                fmt::format("ls -l {}", path.string()));
  if (status.st_size > static_cast<off_t>(limit_bytes))
    throw Error(ErrorCode::usage, fmt::format("{}: larger than 1 MiB", path.string()));
  ConfigFile file{path, std::string(static_cast<std::size_t>(status.st_size), '\0')};
  std::size_t have = 0;
  while (have < file.text.size()) {
    const auto count = read_some(fd.get(), file.text.data() + have, file.text.size() - have, Deadline::never());
    if (count == 0) break;
    have += count;
  }
  file.text.resize(have);
  return file;
}

std::map<std::string, std::string> config_environment() {
  std::map<std::string, std::string> result;
  const auto take = [&](std::string_view name) {
    const std::string variable(name);
    if (const char* value = variable.empty() ? nullptr : std::getenv(variable.c_str()); value && *value)
      result[variable] = value;
  };
  take(backend_variable);
  for (const auto& key : config_keys()) take(key.variable);
  return result;
}

bool names_variable(std::span<const std::string> patterns, std::string_view name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return pattern.ends_with('*') ? name.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1))
                                  : pattern == name;
  });
}

std::map<std::string, std::string> agent_environment(const Config& config,
                                                     const std::map<std::string, std::string>& host,
                                                     const std::map<std::string, std::string>& more) {
  std::map<std::string, std::string> environment;
  const auto denied = config.list("env.deny"), passed = config.list("env.pass");
  for (const auto& assignment : config.list("env.set")) {
    const auto equals = assignment.find('=');
    environment.insert_or_assign(assignment.substr(0, equals),
                                 assignment.substr(equals + 1));  // the stronger place is last
  }
  for (const auto& [name, value] : host)
    if (names_variable(passed, name)) environment.emplace(name, value);
  environment.insert(more.begin(), more.end());
  std::erase_if(environment, [&](const auto& entry) { return names_variable(denied, entry.first); });
  return environment;
}

}  // namespace agentvm
