#include "cli/manager/ops/run_op.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/agent_layers.hpp"
#include "cli/manager/ops/call_relay.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "cli/manager/ops/start.hpp"
#include "cli/manager/ops/stop_op.hpp"
#include "cli/manager/ops/sync_op.hpp"
#include "cli/wire/messages.hpp"
#include "sync/forget.hpp"
#include "sync/refs.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"
#include "vmm/config.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds git_limit{60'000};
constexpr milliseconds session_limit{30'000};
constexpr milliseconds answer_limit{5'000};
constexpr milliseconds crash_limit{20'000};
constexpr milliseconds crash_turn{200};

/// A clone that was made for a run goes with it, unless there is something in it that is nowhere else.
Json end_clone(Core& core, const fs::path& project) {
  // A record's project is without links; the user's data folder, and a path from a client, may lie behind one.
  std::error_code absent;
  const auto runs = fs::canonical(core.paths().runs(), absent), clone = fs::canonical(project, absent);
  if (absent || clone.parent_path().parent_path() != runs) return nullptr;
  if (sync::has_work_of_its_own(project, Deadline::after(git_limit))) return project.string();
  remove_tree(clone.parent_path());
  return nullptr;
}

/// The ways on that are left without the sandbox: its commits are in the repository.
void name_commands_without_it(const SandboxName& name, Json& sync) {
  const auto outcome = value_or<std::string>(sync, "result", "");
  if (outcome.empty() || outcome == "updated" || outcome == "up-to-date") return;
  const auto ref = shell_word(sync::mirror_ref(name.str(), value_or<std::string>(sync, "branch", "")));
  sync["commands"] = Json::array({"git diff HEAD..." + ref, "git merge " + ref});
}

/// Takes a throw-away sandbox away, its work first. When that cannot be had, the sandbox stays, and is an ordinary one
/// from then on.
void remove_run(Core& core, CallContext& call, const SandboxRecord& record, Json& result) {
  const auto& name = record.name;
  try {
    const auto gone = destroy_sandbox(core, call, {{"name", name.str()}});
    result["rescued"] = gone["rescued"];
  } catch (Error& error) {
    if (!core.store().find(name)) throw;
    core.store().update(name, [](SandboxRecord& r) { r.throw_away = false; });
    result["kept"] = true;
    error.while_doing(fmt::format("'{}' is kept, because its end failed", name.str()));
    throw;
  }
  if (result["sync"].is_object()) name_commands_without_it(name, result["sync"]);
  result["references"] = sync::forget_what_is_had(record.project, name.str(), Deadline::after(git_limit));
  result["clone"] = end_clone(core, record.project);
}

bool guest_answers(Core& core, const SandboxName& name) {
  const auto live = core.live(name);
  try {
    if (live) live->session(Session::control, Deadline::after(answer_limit));
    return live != nullptr;
  } catch (const Error&) {
    return false;
  }
}

/// The command may have ended because its machine did, which others are just about to find out: until they have,
/// nothing here could tell a crash from a guest that is to be asked for its work.
SandboxRecord after_the_command(Core& core, const SandboxName& name) {
  const auto deadline = Deadline::after(crash_limit);
  auto record = core.store().get(name);
  while (record.state == SandboxState::running && !guest_answers(core, name) && !deadline.expired()) {
    system_clock().sleep(crash_turn);
    record = core.store().get(name);
  }
  return record;
}

/// Everything after the command: never throws, what fails is in the result.
Json finish(Core& core, CallContext& call, const SandboxName& name, const Json& params) {
  Json result{{"schema", "agentvm.run/1"}, {"name", name.str()},          {"kept", true},     {"sync", nullptr},
              {"rescued", Json::array()},  {"references", Json::array()}, {"clone", nullptr}, {"problem", nullptr}};
  const auto attempt = [&](const std::function<void()>& step) {
    try {
      step();
    } catch (const Error& error) {
      log::warn("run", "{}: {}", name.str(), error.what());
      if (result["problem"].is_null()) result["problem"] = wire::to_json(error);
    } catch (const std::exception& problem) {
      log::error("run", "{}: {}", name.str(), problem.what());
      if (result["problem"].is_null())
        result["problem"] = wire::to_json(Error(ErrorCode::operation_failed, problem.what()));
    }
  };
  Json wanted{{"name", name.str()}, {"cwd", value_or<std::string>(params, "cwd", "/")}};
  if (params.contains("env")) wanted["env"] = params["env"];
  wanted["listed"] = !call.cancelled().stop_requested();  // else nobody is there to see what waits
  attempt([&] {
    const auto record = after_the_command(core, name);
    // What such a machine left is read from its files below, where they are to be removed.
    if (record.state != SandboxState::running)
      throw Error(ErrorCode::operation_failed, fmt::format("'{}' is {}: {}", name.str(), to_string(record.state),
                                                           record.message.empty() ? record.reason : record.message));
    result["sync"] = sync_sandbox(core, call, wanted);
  });
  attempt([&] {
    const auto record = core.store().get(name);
    if (!record.throw_away) return;
    result["kept"] = false;
    remove_run(core, call, record, result);
  });
  return result;
}

/// The name of a new run of a project with this root, which no sandbox has: "web-run-3fa2".
SandboxName run_name(Core& core, const fs::path& root) {
  constexpr std::size_t bytes = 2;
  const auto base = SandboxName::derive(root.filename().string());
  for (;;)
    if (auto name = base.with_suffix("run-" + random_hex(bytes)); !core.store().find(name)) return name;
}

/// The command itself, or what makes the plan's agent do the one task.
std::vector<std::string> run_argv(Core& core, const Plan& plan, const Json& params) {
  const auto task = text_or_empty(params, "task");
  if (task.empty()) return require<std::vector<std::string>>(params, "argv");
  if (plan.agent.value == no_agent)
    throw Error(ErrorCode::usage, "a task needs an agent to give it to",
                "agentvm run --agent NAME \"...\"; agentvm agents list");
  return guest::run_command(guest::find_agent(own_agents(core.paths()), plan.agent.value), task);
}

/// A start or a command that failed leaves nothing of a throw-away sandbox, nor of the clone made for it.
void undo(Core& core, const std::shared_ptr<CallContext>& client, const std::optional<SandboxName>& name,
          const fs::path& path) {
  Ending ending(client);
  Json ignored;
  try {
    const auto record = name ? core.store().find(*name) : std::nullopt;
    if (record && record->throw_away)
      remove_run(core, ending, *record, ignored);
    else if (!record)
      end_clone(core, path);
  } catch (const std::exception& problem) {
    ending.warning(problem.what());
  }
}

}  // namespace

void run_in_sandbox(Core& core, const std::shared_ptr<Responder>& call, const Json& params) {
  auto setting = read_client_setting(params);
  std::optional<SandboxName> name;
  try {
    const auto asked = setting.flags.find("name");
    const bool stays = asked != setting.flags.end() || value_or<bool>(params, "keep", false);
    name = asked != setting.flags.end() ? SandboxName::parse(asked->second)
                                        : run_name(core, find_project(setting.path).root);
    setting.flags["name"] = name->str();
    const auto argv = run_argv(core, plan_request(core, setting), params);  // before anything is made
    start_sandbox(core, *call, setting,
                  {.lifetime = stays ? Lifetime::until_destroyed : Lifetime::one_command,
                   .variables = value_or<std::map<std::string, std::string>>(params, "variables", {}),
                   .session = false});
    auto command = params;
    command["name"] = name->str();
    command["argv"] = argv;
    auto process = start_command(core, command, Deadline::after(session_limit));
    serve_process(core, call, std::move(process), [&core, call, name = *name, params](const guest::GuestStatus&) {
      // A lane for each: what one run's guest keeps waiting keeps no other.
      core.janitor().post("end of run " + name.str(), [&core, call, name, params] {
        Ending ending(call);
        call->respond(finish(core, ending, name, params));
      });
    });
  } catch (...) {
    undo(core, call, name, setting.path);
    throw;
  }
}

PlannedRun plan_run(Core& core, ClientSetting setting, const Json& asked) {
  if (const auto found = asked.find("repository"); found != asked.end() && found->is_object()) {
    setting.path = core.paths().runs() / "next" / require<std::string>(*found, "name");
    setting.cwd = setting.path;  // as the run will have it
    setting.uncloned = {.head = optional_text(*found, "head")};
  }
  const bool named = setting.flags.contains("name");
  if (!named)
    setting.flags["name"] = run_name(core, setting.uncloned ? setting.path : find_project(setting.path).root).str();
  PlannedRun planned{plan_request(core, setting), {{"argv", Json::array()}, {"kept", named}, {"repository", nullptr}}};
  if (!named) planned.plan.name.origin = {ConfigLayer::derived, "of one run, another each time", {}};
  if (value_or<bool>(asked, "keep", false)) planned.run["kept"] = true;
  if (!text_or_empty(asked, "task").empty() || !value_or<std::vector<std::string>>(asked, "argv", {}).empty())
    planned.run["argv"] = run_argv(core, planned.plan, asked);
  if (setting.uncloned) {
    const auto url = require<std::string>(asked["repository"], "url");
    planned.run["repository"] = url;
    planned.plan.branch.origin.source = planned.plan.branch.origin.layer != ConfigLayer::derived
                                            ? planned.plan.branch.origin.source
                                        : setting.uncloned->head ? "HEAD of " + url
                                                                 : "HEAD of " + url + ", which names no branch";
    planned.plan.warnings.push_back("what the agentvm.yaml of " + url + " says is not known before it is cloned");
  }
  return planned;
}

void end_left_runs(Core& core) {
  for (const auto& record : core.store().list().records) {
    if (!record.throw_away) continue;
    log::info("run", "{}: its run is gone; ending it", record.name.str());
    core.janitor().post("end of run " + record.name.str(), [&core, name = record.name] {
      Ending ending(nullptr);
      finish(core, ending, name, Json::object());
    });
  }
}

}  // namespace agentvm::manager
