#include "cli/manager/ops/agent_layers.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/manager/ops/agent_updates.hpp"
#include "cli/manager/ops/helper_guest.hpp"
#include "cli/manager/ops/registry.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/text.hpp"
#include "vmm/disk/overlay.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds lock_limit{30 * 60'000};
constexpr milliseconds install_limit{30 * 60'000};
constexpr milliseconds copy_limit{15 * 60'000};
constexpr std::uint64_t largest_layer_bytes = 4ull << 30;
constexpr const char* building_prefix = ".new-";

/// In a guest of its own, from its start to the layer's file.
class Build {
 public:
  Build(Core& core, CallContext& call, const guest::AgentDefinition& agent, const fs::path& folder,
        const std::map<std::string, std::string>& environment)
      : call_(call),
        agent_(agent),
        folder_(folder),
        guest_(core, call,
               {.name = "layer-" + agent.name,
                .folder = folder,
                .flags = {{"memory", "2G"},
                          {"network", "filtered"},
                          {"nested", "false"},
                          {"egress.presets", "package-registries"}},
                .environment = environment}) {}

  void run() {
    install();
    copy();
  }

 private:
  void install() {
    report(call_.progress_function(), "agent-layer",
           "fetching " + (agent_.version().empty() ? "it" : agent_.version()));
    const auto script = guest::install_script(agent_, npm_registry());
    const auto result =
        guest_.live()->control()->exec({.argv = {"sh", "-c", script}}, Deadline::after(install_limit), 64u << 10);
    if (!result.ok())
      throw Error(ErrorCode::operation_failed,
                  fmt::format("it could not be installed: {}", clean_guest_text(result.err, Newlines::escape, 700)),
                  "agentvm egress log " + guest_.name().str());
  }

  void copy() {
    report(call_.progress_function(), "agent-layer", "storing the layer");
    const auto deadline = Deadline::after(copy_limit);
    const auto session = guest_.live()->session(Session::control, deadline);
    const auto process = session->exec({.argv = {"sudo", "cat", guest::layer_image}}, deadline);
    const auto io = process->take_io();
    const auto target = folder_ / layer_file;
    const auto out = open_file(target, O_WRONLY | O_CREAT | O_EXCL, 0644);
    std::vector<char> buffer(256u << 10);
    std::uint64_t total = 0;
    while (const auto count = read_some(io.get(), buffer.data(), buffer.size(), deadline)) {
      call_.check_cancelled();
      total += count;
      if (total > largest_layer_bytes)
        throw Error(ErrorCode::operation_failed, fmt::format("it is larger than {} bytes", largest_layer_bytes));
      write_all(out.get(), {buffer.data(), count}, deadline);
    }
    const auto status = process->wait(deadline);
    if (!status || status->shell_code() != 0 || total == 0)
      throw Error(ErrorCode::operation_failed, "the layer could not be read from the guest");
    check_errno(::fsync(out.get()), target.string());
  }

  CallContext& call_;
  const guest::AgentDefinition& agent_;
  const fs::path folder_;
  HelperGuest guest_;
};

Json lock_word(guest::AgentDefinition::Lock lock) {
  if (lock == guest::AgentDefinition::Lock::none) return nullptr;
  return lock == guest::AgentDefinition::Lock::pinned ? "pinned" : "updated";
}

Json agent_json(const Paths& paths, const guest::AgentDefinition& agent) {
  const auto layer = find_layer(paths, agent);
  return {{"name", agent.name},
          {"title", agent.title},
          {"version", agent.version().empty() ? Json(nullptr) : Json(agent.version())},
          {"origin", agent.origin},
          {"defined_version", agent.defined_version.empty() ? Json(nullptr) : Json(agent.defined_version)},
          {"lock", lock_word(agent.lock)},
          {"newest", newest_known(paths, agent)},
          {"installed", layer.has_value() || !agent.has_layer()},
          {"size_bytes", layer ? Json(allocated_bytes(*layer)) : Json(nullptr)}};
}

Json list_agents(Core& core, CallContext& call, const Json& params) {
  Json result{{"schema", "agentvm.agents-list/1"}, {"agents", Json::array()}};
  for (const auto& agent : guest::agent_definitions(own_agents(core.paths()))) {
    if (value_or<bool>(params, "newest", false)) newest_now(call, core.paths(), agent);
    result["agents"].push_back(agent_json(core.paths(), agent));
  }
  return result;
}

/// All names are looked up before the first is built.
Json build_agents(Core& core, CallContext& call, const Json& params) {
  std::vector<guest::AgentDefinition> wanted;
  for (const auto& name : require<std::vector<std::string>>(params, "names"))
    wanted.push_back(guest::find_agent(own_agents(core.paths()), name));
  Json result{{"schema", "agentvm.agents-build/1"}, {"agents", Json::array()}};
  for (const auto& agent : wanted) {
    if (agent.has_layer())
      ensure_layer(core, call, agent, value_or<std::map<std::string, std::string>>(params, "env", {}));
    result["agents"].push_back(agent_json(core.paths(), agent));
  }
  return result;
}

}  // namespace

fs::path own_agents(const Paths& paths) {
  return paths.config_file.parent_path() / "agents";
}

std::optional<fs::path> find_layer(const Paths& paths, const guest::AgentDefinition& agent) {
  if (!agent.has_layer()) return std::nullopt;
  const auto file = paths.layers() / guest::layer_key(agent) / layer_file;
  std::error_code ignored;
  return fs::is_regular_file(file, ignored) ? std::optional(file) : std::nullopt;
}

fs::path ensure_layer(Core& core, CallContext& call, const guest::AgentDefinition& agent,
                      const std::map<std::string, std::string>& environment) {
  if (const auto found = find_layer(core.paths(), agent)) return *found;
  const auto folder = core.paths().layers();
  ensure_private_dir(core.paths().data);
  ensure_private_dir(folder);
  const auto lock = FileLock::acquire(folder / "lock", Deadline::after(lock_limit));
  if (const auto found = find_layer(core.paths(), agent)) return *found;  // whoever had the lock built it
  HelperGuest::sweep(core, folder, building_prefix);
  const auto key = guest::layer_key(agent);
  const auto growing = folder / (building_prefix + random_hex(4));
  ensure_private_dir(growing);
  try {
    HelperRelay relay(call, "agent-layer", fmt::format("installing {} (once)", agent.title));
    Build(core, relay, agent, growing, environment).run();
    remove_tree(growing / HelperGuest::project_folder);
    write_file_atomic(growing / "layer.json",
                      dump_json({{"schema", 1}, {"agent", agent.name}, {"version", agent.version()}}) + "\n");
    check_errno(::rename(growing.c_str(), (folder / key).c_str()), "keeping the layer");
    sync_dir(folder);
  } catch (Error& error) {
    remove_tree(growing);
    throw error.while_doing("installing " + agent.title);
  }
  return folder / key / layer_file;
}

std::uint64_t prune_layers(const Paths& paths, const std::set<std::string>& in_use) {
  const auto folder = paths.layers();
  if (!fs::exists(folder)) return 0;
  const auto lock = FileLock::try_acquire(folder / "lock");
  if (!lock) throw Error(ErrorCode::wrong_state, "a layer is being built", "agentvm list");
  std::uint64_t freed = 0;
  std::vector<fs::path> doomed;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory() && !in_use.contains(entry.path().filename().string())) doomed.push_back(entry.path());
  for (const auto& path : doomed) {
    freed += allocated_bytes(path / layer_file);
    remove_tree(path);
  }
  return freed;
}

std::string layer_version(const Paths& paths, const std::string& key) {
  constexpr std::size_t limit_bytes = 4096;
  const auto text = key.empty() ? std::nullopt : read_file_if_exists(paths.layers() / key / "layer.json", limit_bytes);
  return text ? value_or<std::string>(parse_json(*text, "layer.json"), "version", "") : "";
}

void add_agent_operations(Service& service, const std::shared_ptr<Core>& core) {
  service.add("agents.list", Lane::work,
              [core](CallContext& call, const Json& params) { return list_agents(*core, call, params); });
  service.add("agents.build", Lane::work,
              [core](CallContext& call, const Json& params) { return build_agents(*core, call, params); });
}

}  // namespace agentvm::manager
