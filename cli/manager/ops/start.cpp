#include "cli/manager/ops/start.hpp"

#include <future>

#include <fmt/format.h>

#include "cli/manager/ops/agent_credentials.hpp"
#include "cli/manager/ops/agent_layers.hpp"
#include "cli/manager/ops/agent_session.hpp"
#include "cli/manager/ops/boot.hpp"
#include "cli/manager/ops/egress_policy.hpp"
#include "cli/manager/ops/env_files.hpp"
#include "cli/manager/ops/freeze.hpp"
#include "cli/manager/ops/guest_settings.hpp"
#include "cli/manager/ops/machine_limits.hpp"
#include "cli/manager/ops/nested_check.hpp"
#include "cli/manager/ops/pull.hpp"
#include "cli/manager/ops/rescue.hpp"
#include "cli/manager/ops/running.hpp"
#include "cli/manager/ops/salvage.hpp"
#include "cli/manager/ops/saved_state.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "cli/manager/ops/start_history.hpp"
#include "cli/manager/ops/status.hpp"
#include "cli/manager/ops/suspend.hpp"
#include "cli/manager/ops/teardown.hpp"
#include "guest/ssh/keys.hpp"
#include "guest/ssh/ssh_config.hpp"
#include "sync/refs.hpp"
#include "sync/workspace.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"
#include "vmm/disk/overlay.hpp"
#include "vmm/virtiofs/mapped_process.hpp"
#include "vmm/virtiofs/virtiofsd.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds image_limit{30 * 60'000};
constexpr milliseconds seed_limit{30 * 60'000};
constexpr milliseconds short_limit{60'000};
constexpr milliseconds hold_limit{10'000};
constexpr milliseconds rescue_limit{5 * 60'000};

/// The folder in which a clone grows; renamed when it is whole.
constexpr const char* seeding_folder = "workspace.new";
/// Disk mode: says that the guest's disk holds the workspace.
constexpr const char* populated_marker = "workspace.populated";

class StartFlow {
 public:
  StartFlow(Core& core, CallContext& call, Plan plan, const StartOptions& options,
            std::map<std::string, std::string> environment)
      : core_(core),
        call_(call),
        plan_(std::move(plan)),
        options_(options),
        environment_(std::move(environment)),
        timeline_(system_clock()) {}

  Json run(SandboxRecord record) {
    name_ = record.name.str();
    record_name_ = record.name;
    record = core_.apply(record.name, SandboxEvent::start, "user");
    try {
      prepare();
      booting_ = true;
      boot();
      booting_ = false;
      populate_disk();
      if (record.unsaved) keep_left_over();
      settle_trust();
      settle_decoys();
      start_agent();
      mark_unsaved(core_, record.name, true);
      record = core_.apply(record.name, SandboxEvent::ready, "user");
    } catch (Error& error) {
      fail(error);
      throw;
    } catch (const std::exception& problem) {
      Error error(ErrorCode::operation_failed, problem.what());
      fail(error);
      throw error;
    }
    if (options_.lifetime == Lifetime::until_destroyed) settle_nested(core_, record);
    if (record.warm_wish && !record.warm && disk_ == RootDisk::made) core_.templates().wish(record, *image_);
    auto status = sandbox_status(core_, record, Detail::verbose);
    status["already_running"] = false;
    const auto history = core_.paths().host_facts() / "starts.json";
    const auto kind = record.accelerator + (record.warm ? " warm" : "");
    status["timing"] = with_medians(history, kind, timeline_.to_json());
    try {
      remember_start(history, kind, status["timing"]);
    } catch (const Error& error) {  // a full disk is told by what needs it
      log::warn("start", "{}: {}", name_, error.what());
    }
    return status;
  }

 private:
  SandboxRecord record() { return core_.store().get(*record_name_); }
  fs::path folder() { return core_.store().folder(*record_name_); }

  void prepare() {
    const auto current = record();
    const bool seeded = fs::exists(folder() / sandbox_files::workspace) || fs::exists(folder() / populated_marker);
    // The clone does not need the image: both at once.
    std::future<void> clone;
    if (!seeded) clone = std::async(std::launch::async, [this, current] { seed(current); });
    try {
      choose_image(current);
    } catch (...) {
      if (clone.valid()) clone.wait();
      throw;
    }
    timeline_.mark("image");
    choose_agent(current);
    make_keys();
    core_.secrets().begin(current, options_.variables);
    if (!fs::exists(folder() / sandbox_files::disk)) {
      report(call_.progress_function(), "disk", "creating the disk");
      create_overlay(folder() / sandbox_files::disk, image_->root, DiskFormat::raw, ByteSize(),
                     Deadline::after(short_limit));
      disk_ = RootDisk::made;
    }
    timeline_.mark("disk");
    if (clone.valid()) clone.get();
    timeline_.mark("workspace");
    call_.check_cancelled();
    core_.apply(*record_name_, SandboxEvent::prepared, "user");
  }

  void choose_image(const SandboxRecord& current) {
    // A disk stands on one image for its whole life; only a new disk takes the newest.
    if (!current.image_digest.empty() && fs::exists(folder() / sandbox_files::disk)) {
      image_ = get_image(core_.paths().images(), current.image_digest);
      if (!image_->damage.empty()) throw damaged_base(image_->damage);
      return;
    }
    image_ = wanted_image(current.image, current.image_layers);
    core_.store().update(*record_name_, [&](SandboxRecord& r) { r.image_digest = image_->digest; });
    call_.check_cancelled();
  }

  /// Its disk is worth nothing without what it stands on.
  Error damaged_base(const std::string& damage) const {
    return {ErrorCode::operation_failed,
            fmt::format("the image {} that the disk of {} stands on is damaged: {}", image_->digest.substr(0, 12),
                        name_, damage),
            "agentvm start --fresh"};
  }

  /// What the record says of a machine that was ended while it started.
  std::string why_ended() {
    try {
      return record().message;
    } catch (const Error& unread) {
      log::warn("start", "{}: {}", name_, unread.what());
      return "";
    }
  }

  /// A machine that does not come up may have been given something else than what was built: that takes seconds to see,
  /// so it is looked for when nothing runs any more.
  void explain_by_damage(Error& error) {
    try {
      const auto damage = find_damage(*image_, Deadline::after(short_limit));
      if (damage.empty()) return;
      note_damage(*image_, damage);
      error = damaged_base(fmt::format("{} ({})", damage, error.message()));
      core_.store().update(*record_name_, [&](SandboxRecord& r) { r.message = error.what(); });
    } catch (const Error& unread) {
      log::warn("start", "{}: whether its image is damaged is not known: {}", name_, unread.what());
    }
  }

  Image wanted_image(const std::string& wanted, const std::vector<std::string>& layers) {
    if (!image_is_recipe(wanted) && wanted != default_image) {
      auto image = get_image(core_.paths().images(), wanted);
      refuse_damaged(image);
      return image;
    }
    auto request = core_.image_request(wanted);
    request.layers = layers;
    request.stop = call_.cancelled();
    ensure_private_dir(core_.paths().data);
    return ensure_image(request, call_.progress_function(), Deadline::after(image_limit));
  }

  /// The layer belongs to the machine: it is chosen anew at each start, and is built where there is none.
  void choose_agent(const SandboxRecord& current) {
    agent_ = agent_of(core_, current);
    const bool has_layer = agent_ && agent_->has_layer();
    if (has_layer) ensure_layer(core_, call_, *agent_, environment_);
    core_.store().update(*record_name_,
                         [&](SandboxRecord& r) { r.layer = has_layer ? guest::layer_key(*agent_) : ""; });
    if (has_layer) timeline_.mark("layer");
  }

  void start_agent() {
    if (!agent_) {
      core_.store().update(*record_name_, [](SandboxRecord& r) {
        r.agent_variables.clear();
        r.agent_credentials.clear();
      });
      return;
    }
    report(call_.progress_function(), "agent", "setting up " + agent_->title);
    const auto live = core_.live(*record_name_);
    const auto deadline = Deadline::after(short_limit);
    const auto config = core_.project_config(record().project, environment_);
    const auto warn = [this](const std::string& text) { call_.warning(text); };
    auto more = run_env_commands(wanted_commands(config), home(), warn, call_.cancelled());
    more.merge(read_env_files(record().project, config.list("env.files"), warn));
    auto variables = agent_environment(config, options_.variables, more);
    keep_secrets_out(variables);
    set_up_agent(*live, *agent_, variables, deadline);
    std::vector<guest::AgentFile> lent;
    if (config.enabled("credentials.copy")) lent = read_credentials(*agent_, home(), warn);
    lend_credentials(*live, *agent_, lent, deadline);
    core_.store().update(*record_name_, [&](SandboxRecord& r) {
      r.agent_credentials.clear();
      for (const auto& file : lent) r.agent_credentials.push_back(file.path);
      r.agent_variables.clear();
      for (const auto& [variable, value] : variables) r.agent_variables.push_back(variable);
    });
    if (options_.session)
      begin_session(*live, {session_name(record()), "/workspace"}, *agent_, options_.task, deadline);
    timeline_.mark("agent");
  }

  /// What stands for a secret in the guest is its placeholder, whatever else would set it.
  void keep_secrets_out(std::map<std::string, std::string>& variables) {
    const auto current = record();
    if (!uses_secrets(current)) return;
    for (const auto& rule : current.egress_secrets)
      if (variables.erase(rule.variable) > 0)
        call_.warning(fmt::format("{} is not given to the agent: it is a secret that stays here (egress.secrets)",
                                  rule.variable));
  }

  /// But those of variables that nobody gets: what need not be asked is not.
  static std::vector<std::string> wanted_commands(const Config& config) {
    auto commands = config.list("env.commands");
    const auto denied = config.list("env.deny");
    std::erase_if(commands,
                  [&](const auto& entry) { return names_variable(denied, entry.substr(0, entry.find('='))); });
    return commands;
  }

  /// The client's.
  fs::path home() const {
    const auto found = environment_.find("HOME");
    return found == environment_.end() ? fs::path() : fs::path(found->second);
  }

  void make_keys() {
    if (fs::exists(folder() / sandbox_files::known_hosts)) return;
    ensure_private_dir(folder() / sandbox_files::keys);
    const auto host = guest::generate_ed25519("agentvm host key of " + name_);
    const auto client = guest::generate_ed25519("agentvm client key of " + name_);
    write_file_atomic(folder() / sandbox_files::host_key, host.private_pem);
    write_file_atomic(folder() / sandbox_files::host_key_public, host.public_line + "\n", 0600);
    write_file_atomic(folder() / sandbox_files::client_key, client.private_pem);
    write_file_atomic(folder() / sandbox_files::client_key_public, client.public_line + "\n", 0600);
    write_file_atomic(folder() / sandbox_files::known_hosts, guest::known_hosts_line(name_, host.public_line));
  }

  void seed(const SandboxRecord& current) {
    report(call_.progress_function(), "workspace", "copying the repository");
    const auto target = folder() / seeding_folder;
    remove_tree_mapped(target, Deadline::after(short_limit));
    sync::SeedRequest request;
    request.repository = current.project;
    request.target = target;
    if (plan_.branch.origin.layer != ConfigLayer::derived) request.branch = plan_.branch.value;
    if (current.git_identity) {
      const auto identity = host_git_identity(current.project);
      if (identity)
        request.identity = {identity->name, identity->email};
      else
        call_.warning("git user.name or user.email is not set here; commits in the sandbox will name " +
                      fallback_git_email(name_));
    }
    if (::geteuid() == 0 && current.workspace == WorkspaceMode::virtiofs) {
      const auto owner = workspace_owner();
      request.owner = {owner.uid, owner.gid};
    }
    const auto seeded = sync::seed_workspace(request, call_.progress_function(), Deadline::after(seed_limit));
    if (const auto& dirty = seeded.dirty; dirty.total() > 0)
      call_.warning(fmt::format("uncommitted changes came along: {} staged, {} modified, {} deleted, {} untracked",
                                dirty.staged, dirty.modified, dirty.deleted, dirty.untracked));
    for (const auto& warning : seeded.warnings) call_.warning(warning);
    core_.store().update(current.name, [&](SandboxRecord& r) { r.branch = seeded.branch; });
    if (current.workspace == WorkspaceMode::virtiofs) {
      check_shareable(target);
      if (::rename(target.c_str(), (folder() / sandbox_files::workspace).c_str()) < 0)
        throw_errno("keeping the workspace");
      sync_dir(folder());
    }
  }

  void boot() {
    const auto current = record();
    // Ctrl-C ends the machine, which ends every wait below.
    const std::stop_callback on_cancel(call_.cancelled(), [this, current] {
      core_.janitor().post("cancelled start of " + current.name.str(), [this_core = &core_, current] {
        const auto deadline = Deadline::after(short_limit);
        const auto info = this_core->store().find(current.name);
        if (info && info->state == SandboxState::starting)
          this_core->hypervisor(info->libvirt_uri, deadline)->stop(info->domain, deadline);
      });
    });
    boot_machine(core_, call_, current, *image_, disk_, timeline_);
  }

  void populate_disk() {
    const auto current = record();
    if (current.workspace != WorkspaceMode::disk || fs::exists(folder() / populated_marker)) return;
    report(call_.progress_function(), "workspace", "sending the repository into the guest");
    const auto live = core_.live(*record_name_);
    const auto deadline = Deadline::after(seed_limit);
    const auto session = command_session(core_, *record_name_, *live, deadline);
    // An interrupted start may have left half a tree there.
    const auto wipe = session->exec({.argv = {"find", "/workspace", "-mindepth", "1", "-delete"}}, deadline);
    wipe->wait(deadline);
    sync::stream_workspace(folder() / seeding_folder, *session, "/workspace", call_.progress_function(), deadline);
    write_file_atomic(folder() / populated_marker, "");
    remove_tree(folder() / seeding_folder);
    timeline_.mark("workspace-send");
  }

  /// The last run crashed or was stopped by force: its uncommitted work comes home before anything here can change it.
  /// What fails is told, and asked for again by the next start.
  void keep_left_over() {
    report(call_.progress_function(), "rescue", "keeping what the last run left uncommitted");
    try {
      const auto rescued = rescue_work(core_, record(), Deadline::after(rescue_limit));
      if (rescued.warnings.empty()) mark_unsaved(core_, *record_name_, false);
      for (const auto& warning : rescued.warnings) call_.warning(warning);
      for (const auto& ref : rescued.refs)
        if (ref.starts_with(sync::mirror_ref(name_, "wip/")))
          call_.warning("the last run did not end in order; its uncommitted work is kept as " + ref);
    } catch (const Error& error) {
      call_.warning(
          fmt::format("what the last run left uncommitted could not be copied to the host ({})", error.what()));
    }
  }

  /// Not worth a failed start: only names behind an inspecting proxy, and hosts of secrets, need it.
  void settle_trust() {
    const auto live = core_.live(*record_name_);
    try {
      trust_authorities(core_, record(), *live->control(), Deadline::after(short_limit));
    } catch (const Error& error) {
      call_.warning(error.what());
    }
  }

  /// Not worth a failed start either.
  void settle_decoys() {
    try {
      for (const auto& path :
           plant_decoys(core_, record(), *core_.live(*record_name_)->control(), Deadline::after(short_limit)))
        call_.warning(fmt::format("the guest has a ~/{} of its own, which stays: that decoy is not there", path));
    } catch (const Error& error) {
      call_.warning(error.what());
    }
  }

  /// Undo in reverse; the record keeps the reason. Nothing here may hide the first error.
  void fail(Error& error) {
    const bool cancelled = call_.cancelled().stop_requested();
    const auto tail = clean_guest_text(core_.serial().tail(name_, 1500), Newlines::keep, 2000);
    const auto ended = why_ended();
    if (const auto now = core_.store().find(*record_name_); now && !now->frozen.empty())
      error = frozen_error(*now);
    else if (!ended.empty() && ended != error.message())
      error = Error(ErrorCode::host_lacks, fmt::format("{} ({})", ended, error.message()), "agentvm image prune");
    try {
      core_.apply(*record_name_, SandboxEvent::failed, cancelled ? "cancelled" : "start-failed", error.what());
      tear_down(core_, *record_name_, Shutdown::forced, milliseconds(0), Deadline::after(short_limit));
    } catch (const std::exception& second) {
      log::error("start", "{}: cleaning up after a failed start: {}", name_, second.what());
    }
    if (booting_ && ended.empty() && !call_.cancelled().stop_requested()) explain_by_damage(error);
    error.while_doing("starting " + name_);
    if (cancelled)
      throw Error(ErrorCode::cancelled, fmt::format("starting {} was cancelled; what was made is kept", name_),
                  "agentvm start");
    if (error.hint().empty()) error.with_hint("agentvm logs " + name_ + " --boot");
    if (!tail.empty() && timeline_.has("machine"))
      error = Error(error.code(), fmt::format("{}\nlast lines of the guest's console:\n{}", error.what(), tail),
                    error.hint());
  }

  Core& core_;
  CallContext& call_;
  Plan plan_;
  const StartOptions options_;
  const std::map<std::string, std::string> environment_;  ///< the client's
  std::optional<guest::AgentDefinition> agent_;
  Timeline timeline_;
  std::optional<SandboxName> record_name_;
  std::string name_;
  std::optional<Image> image_;
  RootDisk disk_ = RootDisk::kept;
  bool booting_ = false;
};

/// No machine was ever begun for it: it holds nothing of anybody's. (`boot` goes with each teardown.)
bool never_ran(const SandboxRecord& record) {
  return record.ssh_port == 0 && !record.unsaved && !record.last_sync;
}

/// Told before anything is made for it, or dropped.
void check_sharing(const Plan& plan) {
  if (plan.workspace.value != WorkspaceMode::virtiofs) return;
  try {
    check_user_namespaces(Deadline::after(short_limit));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::host_lacks) throw;
    throw Error(error.code(), "the workspace cannot be shared with a guest: " + error.message(),
                "agentvm start --workspace disk" + (error.hint().empty() ? "" : ", or " + error.hint()));
  }
}

/// The sandbox that the plan is about: the project's, or a new one.
SandboxRecord find_or_create(Core& core, const Plan& plan, Lifetime lifetime) {
  if (auto existing = core.store().find(plan.name.value)) return *existing;
  auto record = record_from_plan(plan, system_clock().unix_seconds());
  record.throw_away = lifetime == Lifetime::one_command;
  return core.store().create(std::move(record));
}

/// One that has a machine, or the memory of one, goes on; nothing where it has neither or is to be a fresh one.
std::optional<Json> go_on(Core& core, CallContext& call, const Plan& plan, const StartOptions& options,
                          const SandboxRecord& record) {
  if (!options.fresh) check_not_frozen(record);
  const bool goes_on = record.state == SandboxState::running || record.state == SandboxState::paused;
  if (goes_on && !options.fresh && plan.network.value != record.network)
    call.warning(fmt::format("'{}' goes on with network {}; {} comes with its next start", record.name.str(),
                             to_string(record.network), to_string(plan.network.value)));
  if (record.state == SandboxState::paused && !options.fresh) {
    report(call.progress_function(), "resume", "resuming " + record.name.str());
    auto status = sandbox_status(core, wake(core, record), Detail::verbose);
    status["already_running"] = false;
    return status;
  }
  if (record.state == SandboxState::saved && !options.fresh) {
    core.secrets().take(record, options.variables);
    auto status = sandbox_status(core, restore_from_disk(core, call, record), Detail::verbose);
    status["already_running"] = false;
    return status;
  }
  if (record.state == SandboxState::running || record.state == SandboxState::paused) {
    if (!options.task.empty())
      call.warning(fmt::format("'{}' runs already: its agent was not given the task", record.name.str()));
    if (plan.agent.value != record.agent)
      call.warning(fmt::format("'{}' goes on with agent {}; {} comes with its next start", record.name.str(),
                               record.agent, plan.agent.value));
    if (core.secrets().take(record, options.variables)) apply_egress_policy(core, record.name);
    auto status = sandbox_status(core, record, Detail::verbose);
    status["already_running"] = true;
    return status;
  }
  return std::nullopt;
}

}  // namespace

Plan plan_request(Core& core, const ClientSetting& setting) {
  PlanRequest request;
  if (setting.uncloned) {
    request.project = {setting.path, "", setting.path / ".git"};
    request.head_branch = setting.uncloned->head;
  } else {
    request.project = find_project(setting.path);
    refuse_guest_repository(core.paths(), request.project.root);
    refuse_guest_repository(core.paths(), request.project.git_dir);
    request.head_branch = current_branch(request.project);
  }
  request.cwd = setting.cwd;
  request.flags = setting.flags;
  request.environment = setting.environment;
  request.user_config = core.paths().config_file;
  request.host = read_host_facts();
  request.trust = core.trust().lookup(request.project.root);
  auto mine = core.store().find_by_project(request.project.root);
  std::erase_if(mine, [](const SandboxRecord& record) { return record.throw_away; });
  if (mine.size() == 1) request.existing = mine.front().name;
  request.taken = [&core, root = request.project.root](const SandboxName& name) {
    const auto other = core.store().find(name);
    return other && other->project != root;
  };
  auto plan = resolve_plan(request);
  if (plan.agent.value != no_agent) guest::find_agent(own_agents(core.paths()), plan.agent.value);
  return plan;
}

Json start_sandbox(Core& core, CallContext& call, const ClientSetting& setting, const StartOptions& options) {
  auto plan = plan_request(core, setting);
  for (const auto& warning : plan.warnings) call.warning(warning);
  if (!options.task.empty() && plan.agent.value == no_agent)
    throw Error(ErrorCode::usage, "the words after -- are a task for an agent, and none is asked for",
                "agentvm start --agent claude -- ...");
  // A repository that no sandbox can be made of is told at once, not after an image was built for it.
  const auto there = core.store().find(plan.name.value);
  if (!there) sync::open_host_repository(plan.project.root, Deadline::after(short_limit));
  if (!there || there->state != SandboxState::running) {
    core.hypervisor(there && !options.fresh ? there->libvirt_uri : plan.libvirt_uri.value,
                    Deadline::after(short_limit));
    check_disk_reserve(core, "starting " + plan.name.value.str());
  }
  if (!there || never_ran(*there) || options.fresh) check_sharing(plan);
  auto record = find_or_create(core, plan, options.lifetime);
  const auto hold = core.hold(record.name, Deadline::after(hold_limit));
  if (const auto settled = settle_interrupted(core, core.store().get(record.name)))
    record = *settled;
  else
    record = find_or_create(core, plan, options.lifetime);
  if (auto status = go_on(core, call, plan, options, record)) return *status;
  if (!record.teardown.empty())
    tear_down(core, record.name, Shutdown::forced, milliseconds(0), Deadline::after(short_limit));
  const bool anew = never_ran(record) && record.workspace != plan.workspace.value;
  if (options.fresh || anew) {
    if (record.unsaved)
      for (const auto& ref : salvage(core, call, record).refs)
        if (ref.starts_with(sync::mirror_ref(record.name.str(), "wip/"))) call.warning("its work is kept as " + ref);
    report(call.progress_function(), "fresh",
           (anew ? "dropping what an earlier start left of " : "dropping the old state of ") + record.name.str());
    erase(core, record.name, Deadline::after(seed_limit));
    record = find_or_create(core, plan, options.lifetime);
  } else {
    const bool has_disk = fs::exists(core.store().folder(record.name) / sandbox_files::disk);
    record = core.store().update(record.name, [&](SandboxRecord& r) {
      // Without a disk nothing stands on the image yet: the one that was trusted at the time is not built now.
      if (!has_disk) {
        r.image = plan.image.value.str();
        r.image_layers = plan.layers.value;
      }
      apply_plan(r, plan);
    });
    for (const auto& warning : record.warnings)
      if (std::find(plan.warnings.begin(), plan.warnings.end(), warning) == plan.warnings.end()) call.warning(warning);
  }
  return StartFlow(core, call, std::move(plan), options, setting.environment).run(record);
}

}  // namespace agentvm::manager
