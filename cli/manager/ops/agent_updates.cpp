#include "cli/manager/ops/agent_updates.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/agent_layers.hpp"
#include "cli/manager/ops/registry.hpp"
#include "cli/manager/ops/requests.hpp"
#include "guest/agents/locks.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

using guest::AgentDefinition;
using guest::AgentLock;
using guest::AgentPackage;

constexpr std::size_t largest_file = 256u << 10;
constexpr milliseconds lock_limit{10'000};

fs::path locks_path(const Paths& paths) {
  return own_agents(paths).parent_path() / guest::agent_locks_file;
}

/// Sets (or, without a value, removes) one agent's lock.
void write_lock(const Paths& paths, const std::string& name, const std::optional<AgentLock>& lock) {
  const auto file = locks_path(paths);
  ensure_private_dir(paths.host_facts());
  const auto held = FileLock::acquire(paths.host_facts() / "agents.lock", Deadline::after(lock_limit));
  const auto text = read_file_if_exists(file, largest_file);
  auto locks = text ? guest::parse_agent_locks(*text, file.string()) : guest::AgentLocks();
  if (lock)
    locks[name] = *lock;
  else
    locks.erase(name);
  fs::create_directories(file.parent_path());
  write_file_atomic(file, guest::agent_locks_text(locks), 0644);
}

fs::path newest_path(const Paths& paths) {
  return paths.host_facts() / "agents.json";
}

Json read_newest(const Paths& paths) {
  try {
    const auto text = read_file_if_exists(newest_path(paths), largest_file);
    auto known = text ? parse_json(*text, "agents.json") : Json::object();
    return known.is_object() ? known : Json::object();
  } catch (const Error& error) {
    log::info("agents", "{}", error.what());  // it can be asked for again
    return Json::object();
  }
}

Json remember_newest(const Paths& paths, const AgentPackage& package) {
  ensure_private_dir(paths.host_facts());
  const auto held = FileLock::acquire(paths.host_facts() / "agents.lock", Deadline::after(lock_limit));
  auto known = read_newest(paths);
  Json newest{{"version", package.version}, {"asked", format_time(system_clock().unix_seconds())}};
  known[package.name] = newest;
  write_file_atomic(newest_path(paths), dump_json(known) + "\n");
  return newest;
}

class Update {
 public:
  Update(Core& core, CallContext& call, const Json& params)
      : core_(core),
        call_(call),
        environment_(value_or<std::map<std::string, std::string>>(params, "env", {})),
        dry_run_(value_or<bool>(params, "dry_run", false)) {}

  Json all(const std::vector<std::string>& names) {
    auto agents = guest::agent_definitions(own_agents(core_.paths()));
    if (!names.empty()) {
      std::vector<AgentDefinition> wanted;
      for (const auto& name : names) wanted.push_back(guest::find_agent(own_agents(core_.paths()), name));
      agents = std::move(wanted);
    }
    for (const auto& agent : agents) {
      call_.check_cancelled();
      one(agent, !names.empty() || find_layer(core_.paths(), agent));
    }
    return answer();
  }

  Json pin(const AgentDefinition& agent, const std::string& version) {
    if (agent.packages.empty())
      throw Error(ErrorCode::wrong_state,
                  fmt::format("{} is no package: its definition says how it is installed", agent.title),
                  "agentvm agents list");
    auto& entry = add(agent);
    if (version.empty()) {
      write_lock(core_.paths(), agent.name, std::nullopt);
      entry["to"] = agent.defined_version;
      entry["result"] = agent.version() == agent.defined_version ? "up-to-date" : "updated";
      return answer();
    }
    report(call_.progress_function(), "agents", "asking the registry for " + agent.title + " " + version);
    const auto found = ask_registry(agent.packages.front(), version);
    take(agent, found, AgentLock{found, true}, true);
    entry["to"] = found.version;
    entry["result"] = "pinned";
    return answer();
  }

 private:
  Json& add(const AgentDefinition& agent) {
    const bool has = !agent.packages.empty();
    agents_.push_back({{"name", agent.name},
                       {"package", has ? Json(agent.packages.front().name) : Json(nullptr)},
                       {"from", has ? Json(agent.version()) : Json(nullptr)},
                       {"to", has ? Json(agent.version()) : Json(nullptr)},
                       {"result", has ? "up-to-date" : "no-package"},
                       {"problem", nullptr}});
    return agents_.back();
  }

  /// The layer comes first: what cannot be installed is not chosen.
  void take(AgentDefinition agent, const AgentPackage& package, const AgentLock& lock, bool build) {
    agent.packages.front().version = package.version;
    agent.packages.front().sha512 = package.sha512;
    if (build) ensure_layer(core_, call_, agent, environment_);
    write_lock(core_.paths(), agent.name, lock);
  }

  void one(const AgentDefinition& agent, bool build) {
    auto& entry = add(agent);
    if (agent.packages.empty()) return;
    try {
      report(call_.progress_function(), "agents", "asking the registry for " + agent.title);
      const auto newest = ask_registry(agent.packages.front(), "latest");
      remember_newest(core_.paths(), newest);
      if (agent.lock == AgentDefinition::Lock::pinned) {
        entry["result"] = "pinned";
        entry["to"] = agent.version();
        return;
      }
      // Never back: who stands between us and the registry must not be able to bring an old fault again.
      if (guest::compare_versions(newest.version, agent.version()) <= 0) return;
      entry["to"] = newest.version;
      entry["result"] = "would-update";
      if (dry_run_) return;
      take(agent, newest, AgentLock{newest, false}, build);
      entry["result"] = "updated";
    } catch (const Error& error) {
      if (error.code() == ErrorCode::cancelled) throw;
      entry["result"] = "failed";
      entry["problem"] = error.what();
    }
  }

  Json answer() const {
    return {{"schema", "agentvm.agents-update/1"},
            {"agents", agents_},
            {"dry_run", dry_run_},
            {"lock_file", locks_path(core_.paths()).string()}};
  }

  Core& core_;
  CallContext& call_;
  const std::map<std::string, std::string> environment_;
  const bool dry_run_;
  Json agents_ = Json::array();
};

}  // namespace

Json newest_known(const Paths& paths, const AgentDefinition& agent) {
  if (agent.packages.empty()) return nullptr;
  const auto known = read_newest(paths);
  return known.contains(agent.packages.front().name) ? known.at(agent.packages.front().name) : Json(nullptr);
}

Json newest_now(CallContext& call, const Paths& paths, const AgentDefinition& agent) {
  if (agent.packages.empty()) return nullptr;
  try {
    return remember_newest(paths, ask_registry(agent.packages.front(), "latest"));
  } catch (const Error& error) {
    call.warning(error.what());
    return nullptr;
  }
}

void add_agent_update_operations(Service& service, const std::shared_ptr<Core>& core) {
  service.add("agents.update", Lane::work, [core](CallContext& call, const Json& params) {
    return Update(*core, call, params).all(value_or<std::vector<std::string>>(params, "names", {}));
  });
  service.add("agents.pin", Lane::work, [core](CallContext& call, const Json& params) {
    const auto agent = guest::find_agent(own_agents(core->paths()), require<std::string>(params, "name"));
    return Update(*core, call, params).pin(agent, text_or_empty(params, "version"));
  });
}

}  // namespace agentvm::manager
