#include "guest/agents/locks.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "guest/agents/words.hpp"
#include "vmm/base/base64.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::guest {
namespace {

constexpr int lock_schema = 1;
constexpr std::size_t digest_bytes = 64;

AgentLock lock_of(const Json& json) {
  AgentLock lock;
  lock.package = {require<std::string>(json, "package"), require<std::string>(json, "version"),
                  require<std::string>(json, "sha512")};
  lock.pinned = value_or<bool>(json, "pinned", false);
  const auto& [name, version, sha512, variant] = lock.package;
  if (!is_package_name(name) || !is_package_version(version) || !is_package_digest(sha512))
    throw Error(ErrorCode::usage, "a package is its name, version and 128 lower-case hex digits");
  return lock;
}

/// The part of `text` up to `end`, taken off it with that.
std::string_view take_part(std::string_view& text, char end) {
  const auto at = std::min(text.find(end), text.size());
  const auto part = text.substr(0, at);
  text.remove_prefix(std::min(at + 1, text.size()));
  return part;
}

int sign(std::ptrdiff_t difference) {
  return difference < 0 ? -1 : difference > 0 ? 1 : 0;
}

/// Numbers by their value and before words, words by their letters.
int compare_parts(std::string_view one, std::string_view other) {
  const auto number = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  };
  if (number(one) != number(other)) return number(one) ? -1 : 1;
  if (!number(one)) return sign(one.compare(other));
  for (auto* text : {&one, &other}) text->remove_prefix(std::min(text->find_first_not_of('0'), text->size()));
  if (one.size() != other.size()) return one.size() < other.size() ? -1 : 1;
  return sign(one.compare(other));
}

int compare_lists(std::string_view one, std::string_view other) {
  while (!one.empty() && !other.empty())
    if (const int order = compare_parts(take_part(one, '.'), take_part(other, '.')); order != 0) return order;
  return one.empty() == other.empty() ? 0 : one.empty() ? -1 : 1;
}

}  // namespace

AgentLocks parse_agent_locks(std::string_view text, const std::string& file) {
  try {
    const auto json = parse_json(text, file);
    if (require<int>(json, "schema") != lock_schema)
      throw Error(ErrorCode::usage, "it was written by another version of agentvm");
    AgentLocks locks;
    const auto agents = require<Json>(json, "agents");
    if (!agents.is_object()) throw Error(ErrorCode::usage, "'agents' is an object");
    for (const auto& [name, entry] : agents.items()) locks[name] = lock_of(entry);
    return locks;
  } catch (const Error& error) {
    throw Error(ErrorCode::usage, fmt::format("{}: {}", file, error.what()), "rm " + shell_word(file));
  }
}

std::string agent_locks_text(const AgentLocks& locks) {
  Json json{{"schema", lock_schema}, {"agents", Json::object()}};
  for (const auto& [name, lock] : locks)
    json["agents"][name] = {{"package", lock.package.name},
                            {"version", lock.package.version},
                            {"sha512", lock.package.sha512},
                            {"pinned", lock.pinned}};
  return json.dump(2) + "\n";
}

void apply_agent_lock(AgentDefinition& agent, const AgentLock& lock) {
  if (agent.packages.empty() || agent.packages.front().name != lock.package.name) return;
  auto& package = agent.packages.front();
  if (!lock.pinned && compare_versions(lock.package.version, package.version) <= 0) return;
  package.version = lock.package.version;
  package.sha512 = lock.package.sha512;
  agent.lock = lock.pinned ? AgentDefinition::Lock::pinned : AgentDefinition::Lock::updated;
}

int compare_versions(std::string_view one, std::string_view other) {
  // What was built with what, after a '+', is no part of the order.
  one = one.substr(0, one.find('+'));
  other = other.substr(0, other.find('+'));
  const auto first = take_part(one, '-'), second = take_part(other, '-');
  if (const int order = compare_lists(first, second); order != 0) return order;
  if (one.empty() != other.empty()) return one.empty() ? 1 : -1;  // 1.0.0-beta comes before 1.0.0
  return compare_lists(one, other);
}

std::string manifest_url(const std::string& registry, const std::string& package, const std::string& version) {
  auto base = registry;
  while (base.ends_with('/')) base.pop_back();
  auto name = package;
  if (const auto slash = name.find('/'); slash != name.npos) name.replace(slash, 1, "%2f");
  auto wanted = version;
  for (auto plus = wanted.find('+'); plus != wanted.npos; plus = wanted.find('+')) wanted.replace(plus, 1, "%2b");
  return fmt::format("{}/{}/{}", base, name, wanted);
}

AgentPackage parse_manifest(std::string_view text, const std::string& package) {
  const auto json = parse_json(text, "the registry's answer");
  AgentPackage found{package, require<std::string>(json, "version"), {}};
  if (value_or<std::string>(json, "name", "") != package)
    throw Error(ErrorCode::operation_failed, "the registry's answer is about another package");
  if (!is_package_version(found.version))
    throw Error(ErrorCode::operation_failed, "the registry names a version that is none");
  constexpr std::string_view kind = "sha512-";
  const auto integrity = value_or<std::string>(require<Json>(json, "dist"), "integrity", "");
  for (std::string_view rest = integrity; !rest.empty();) {
    const auto word = take_part(rest, ' ');
    if (!word.starts_with(kind)) continue;
    const auto bytes = base64_decode(word.substr(kind.size()));
    if (bytes.size() != digest_bytes) break;
    for (const char byte : bytes) found.sha512 += fmt::format("{:02x}", static_cast<unsigned char>(byte));
    return found;
  }
  throw Error(ErrorCode::operation_failed,
              fmt::format("the registry names no SHA-512 of {} {}", package, found.version));
}

}  // namespace agentvm::guest
