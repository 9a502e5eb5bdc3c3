#include "cli/manager/ops/agent_layers.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/manager/ops/call_relay.hpp"
#include "cli/manager/ops/host_packages.hpp"
#include "cli/manager/ops/start.hpp"
#include "cli/manager/ops/teardown.hpp"
#include "sync/host_git.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"
#include "vmm/disk/overlay.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds lock_limit{30 * 60'000};
constexpr milliseconds install_limit{30 * 60'000};
constexpr milliseconds copy_limit{15 * 60'000};
constexpr milliseconds short_limit{60'000};
constexpr std::uint64_t largest_layer_bytes = 4ull << 30;
constexpr const char* default_registry = "https://registry.npmjs.org";
constexpr const char* building_prefix = ".new-";

/// The client sees that a layer is made, not every step of the machine in which it is.
class Builder final : public CallRelay {
 public:
  Builder(std::shared_ptr<CallContext> client, std::string title)
      : CallRelay(std::move(client)), title_(std::move(title)) {}
  void progress(const ProgressEvent& event) override {
    CallRelay::progress({"agent-layer", fmt::format("installing {} (once): {}", title_, event.text), event.percent});
  }
  void warning(std::string text) override { log::info("layers", "{}: {}", title_, text); }

 private:
  const std::string title_;
};

/// What is left of builds that were interrupted, but for folders that a sandbox still names as its project.
void sweep(Core& core, const fs::path& folder) {
  std::set<fs::path> named;
  for (const auto& record : core.store().list().records) named.insert(record.project.parent_path());
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().filename().string().starts_with(building_prefix) && !named.contains(entry.path()))
      remove_tree(entry.path());
}

/// One guest, from its start to its end.
class Build {
 public:
  Build(Core& core, CallContext& call, const guest::AgentDefinition& agent, fs::path folder)
      : core_(core),
        call_(call),
        agent_(agent),
        folder_(std::move(folder)),
        name_(SandboxName::derive("layer-" + agent.name).with_suffix(random_hex(2))) {}

  void run(const std::map<std::string, std::string>& environment) {
    try {
      start(environment);
      install();
      copy();
    } catch (...) {
      end();
      throw;
    }
    end();
  }

 private:
  /// A sandbox needs a repository: one commit, nothing in it.
  void start(const std::map<std::string, std::string>& environment) {
    const auto project = folder_ / "agents";
    ensure_private_dir(project);
    const sync::HostGit git(project, sync::HostGit::Config::none);
    const auto soon = Deadline::after(short_limit);
    git.output({"init", "-q"}, soon);
    git.output({"-c", "user.name=agentvm", "-c", "user.email=agentvm@localhost", "commit", "-q", "--allow-empty", "-m",
                "A guest to build a layer in"},
               soon);
    ClientSetting setting;
    setting.cwd = setting.path = project;
    setting.environment = environment;
    setting.flags = {{"name", name_.str()},   {"memory", "2G"},
                     {"vcpus", "2"},          {"network", "filtered"},
                     {"nested", "false"},     {"image", std::string(default_image)},
                     {"sync.mode", "manual"}, {"workspace.mode", "virtiofs"},
                     {"agent", "none"},       {"egress.presets", "package-registries"}};
    start_sandbox(core_, call_, setting, {.lifetime = Lifetime::one_command});
  }

  void install() {
    report(call_.progress_function(), "agent-layer",
           "fetching " + (agent_.version().empty() ? "it" : agent_.version()));
    auto registry = host_npm_config().registry;
    if (registry.empty()) registry = default_registry;
    const auto live = core_.live(name_);
    if (!live) throw Error(ErrorCode::operation_failed, "the guest in which it is installed is gone");
    const auto result = live->control()->exec({.argv = {"sh", "-c", guest::install_script(agent_, registry)}},
                                              Deadline::after(install_limit), 64u << 10);
    if (!result.ok())
      throw Error(ErrorCode::operation_failed,
                  fmt::format("it could not be installed: {}", clean_guest_text(result.err, Newlines::escape, 700)),
                  "agentvm egress log " + name_.str());
  }

  void copy() {
    report(call_.progress_function(), "agent-layer", "storing the layer");
    const auto deadline = Deadline::after(copy_limit);
    const auto session = core_.live(name_)->session(Session::control, deadline);
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

  /// There is nothing in it to be saved. The first error is the one that counts.
  void end() {
    try {
      if (!core_.store().find(name_)) return;
      const auto hold = core_.hold(name_, Deadline::after(short_limit));
      core_.apply(name_, SandboxEvent::destroy, "layer");
      tear_down(core_, name_, Shutdown::forced, milliseconds(0), Deadline::after(short_limit));
      erase(core_, name_, Deadline::after(short_limit));
    } catch (const std::exception& problem) {
      log::error("layers", "{}: {}", name_.str(), problem.what());
    }
  }

  Core& core_;
  CallContext& call_;
  const guest::AgentDefinition& agent_;
  const fs::path folder_;
  const SandboxName name_;
};

Json agent_json(const Paths& paths, const guest::AgentDefinition& agent) {
  const auto layer = find_layer(paths, agent);
  return {{"name", agent.name},
          {"title", agent.title},
          {"version", agent.version().empty() ? Json(nullptr) : Json(agent.version())},
          {"origin", agent.origin},
          {"installed", layer.has_value() || !agent.has_layer()},
          {"size_bytes", layer ? Json(allocated_bytes(*layer)) : Json(nullptr)}};
}

Json list_agents(Core& core) {
  Json result{{"schema", "agentvm.agents-list/1"}, {"agents", Json::array()}};
  for (const auto& agent : guest::agent_definitions(own_agents(core.paths())))
    result["agents"].push_back(agent_json(core.paths(), agent));
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
  sweep(core, folder);
  const auto key = guest::layer_key(agent);
  const auto growing = folder / (building_prefix + random_hex(4));
  ensure_private_dir(growing);
  try {
    // The client outlives this call: nothing keeps a reference to it.
    Builder builder(std::shared_ptr<CallContext>(std::shared_ptr<void>(), &call), agent.title);
    Build(core, builder, agent, growing).run(environment);
    remove_tree(growing / "agents");
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

void add_agent_operations(Service& service, const std::shared_ptr<Core>& core) {
  service.add("agents.list", Lane::quick, [core](CallContext&, const Json&) { return list_agents(*core); });
  service.add("agents.build", Lane::work,
              [core](CallContext& call, const Json& params) { return build_agents(*core, call, params); });
}

}  // namespace agentvm::manager
