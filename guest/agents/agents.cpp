#include "guest/agents/agents.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "guest/agents/embedded.hpp"
#include "guest/agents/locks.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/nearest.hpp"

namespace agentvm::guest {
namespace {

constexpr std::size_t largest_file = 256u << 10;
constexpr int layer_format = 1;  // raised when the same definition makes another layer

}  // namespace

std::vector<AgentDefinition> agent_definitions(const fs::path& own) {
  std::map<std::string, AgentDefinition> by_name;
  for (const auto& [name, text] : embedded_agents()) {
    auto agent = parse_agent(text, std::string(name));
    agent.origin = "built-in";
    by_name.insert_or_assign(agent.name, std::move(agent));
  }
  std::vector<fs::path> files;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(own, absent))
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    auto agent = parse_agent(read_file(file, largest_file), file.string());
    agent.origin = file.string();
    by_name.insert_or_assign(agent.name, std::move(agent));
  }
  const auto locks_path = own.parent_path() / agent_locks_file;
  const auto locks_text = read_file_if_exists(locks_path, largest_file);
  const auto locks = locks_text ? parse_agent_locks(*locks_text, locks_path.string()) : AgentLocks();
  std::vector<AgentDefinition> all;
  for (auto& [name, agent] : by_name) {
    agent.defined_version = agent.version();
    if (const auto lock = locks.find(name); lock != locks.end()) apply_agent_lock(agent, lock->second);
    all.push_back(std::move(agent));
  }
  return all;
}

AgentDefinition find_agent(const fs::path& own, const std::string& name) {
  std::vector<std::string> names;
  for (auto& agent : agent_definitions(own)) {
    if (agent.name == name) return std::move(agent);
    names.push_back(agent.name);
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  const auto nearest = nearest_word(name, views);
  throw Error(ErrorCode::not_found,
              fmt::format("there is no agent '{}'{}", name,
                          nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)),
              "agentvm agents list");
}

std::string layer_key(const AgentDefinition& agent) {
  std::string text = fmt::format("{}\n{}\n", layer_format, agent.name);
  for (const auto& package : agent.packages) text += fmt::format("{} {}\n", package.name, package.sha512);
  return sha256_hex(text + agent.install);
}

std::string layer_serial(const std::string& key) {
  constexpr std::size_t digits = 12;
  return "layer-" + key.substr(0, digits);
}

std::string layer_folder(const std::string& agent) {
  return "/opt/agentvm/" + agent;
}

}  // namespace agentvm::guest
