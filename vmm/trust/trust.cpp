#include "vmm/trust.hpp"

#include <system_error>

#include <fmt/format.h>

#include "vmm/base/digest.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"

namespace agentvm {
namespace {

constexpr std::string_view file_schema = "agentvm.trusted/1";
constexpr std::size_t limit_bytes = 1u << 20;

bool names_recipe(const ConfigKey& key, const Json& value) {
  return key.type == KeyType::image && value.is_string() && image_is_recipe(value.get<std::string>());
}

TrustedDigests parse_trusted(const std::string& text, const fs::path& file, const fs::path& project) {
  const auto json = parse_json(text, file.string());
  if (require<std::string>(json, "schema") != file_schema)
    throw Error(ErrorCode::operation_failed, file.string() + ": written by another version");
  // The name is a digest of the path; what stands inside is what was meant.
  if (require<std::string>(json, "project") != project.string())
    throw Error(ErrorCode::operation_failed, file.string() + ": belongs to another project");
  return require<TrustedDigests>(json, "keys");
}

}  // namespace

fs::path project_recipe(const Json& value, const fs::path& project) {
  return (project / value.get<std::string>()).lexically_normal();
}

std::string trust_digest(const ConfigKey& key, const Json& value, const fs::path& project) {
  Json parts{{"key", key.name}, {"value", value}};
  if (names_recipe(key, value)) {
    const auto path = project_recipe(value, project);
    const auto recipe = read_config_file(path);
    if (!recipe) throw Error(ErrorCode::not_found, fmt::format("{}: there is no such recipe", path.string()));
    parts["recipe"] = sha256_hex(recipe->text);
  }
  return sha256_hex(dump_json(parts));
}

fs::path TrustStore::file(const fs::path& project) const {
  constexpr std::size_t digits = 32;
  return folder_ / (sha256_hex(project.string()).substr(0, digits) + ".json");
}

TrustedDigests TrustStore::read(const fs::path& project) const {
  const auto path = file(project);
  const auto text = read_file_if_exists(path, limit_bytes);
  if (!text) return {};
  try {
    return parse_trusted(*text, path, project);
  } catch (const Error& error) {
    log::warn("trust", "nothing of {} is trusted: {}", project.string(), error.what());
    return {};
  }
}

void TrustStore::write(const fs::path& project, const TrustedDigests& digests) {
  ensure_private_dir(folder_);
  const Json json{{"schema", file_schema}, {"project", project.string()}, {"keys", digests}};
  write_file_atomic(file(project), dump_json(json) + "\n");
}

bool TrustStore::remove(const fs::path& project) {
  const auto path = file(project);
  std::error_code problem;
  const bool was_there = fs::remove(path, problem);
  if (problem) throw Error(ErrorCode::operation_failed, fmt::format("{}: {}", path.string(), problem.message()));
  if (was_there) sync_dir(folder_);
  return was_there;
}

TrustLookup TrustStore::lookup(const fs::path& project) const {
  return [trusted = read(project), project](const ConfigKey& key, const Json& value) {
    const auto found = trusted.find(key.name);
    if (found == trusted.end()) return Trust::none;
    try {
      return trust_digest(key, value, project) == found->second ? Trust::given : Trust::changed;
    } catch (const Error&) {
      return Trust::changed;  // a recipe that cannot be read is not the one that was shown
    }
  };
}

}  // namespace agentvm
