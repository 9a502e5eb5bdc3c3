#include "cli/manager/ops/agent_session.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/agent_layers.hpp"
#include "cli/manager/ops/recordings.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "cli/manager/ops/worktrees.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

constexpr const char* columns = "160";
constexpr const char* rows = "48";

[[noreturn]] void refuse(const guest::AgentDefinition& agent, const std::string& why) {
  throw Error(ErrorCode::operation_failed, fmt::format("{} could not be set up in the guest: {}", agent.title,
                                                       clean_guest_text(why, Newlines::escape, 500)));
}

void run_script(guest::Control& control, const guest::AgentDefinition& agent, const std::string& script,
                const std::string& user, Deadline deadline) {
  // As input, because the words of a program have a limit that settings can pass.
  const auto result = control.exec({.argv = {"sh", "-s"}, .user = user, .input = script}, deadline);
  if (!result.ok()) refuse(agent, result.err);
}

Json session_json(Core& core, const SandboxRecord& record, const std::string& name) {
  Json json{{"state", nullptr}, {"exit_code", nullptr}, {"since", nullptr}, {"since_seconds", nullptr}};
  const auto session = core.agents().session(record.name, name);
  if (record.state != SandboxState::running || session.state.empty()) return json;
  json["state"] = session.state;
  if (session.state == "ended") json["exit_code"] = session.code;
  json["since"] = format_time(session.since);
  json["since_seconds"] = std::max<std::int64_t>(0, system_clock().unix_seconds() - session.since);
  return json;
}

}  // namespace

std::optional<guest::AgentDefinition> agent_of(Core& core, const SandboxRecord& record) {
  if (record.agent == no_agent) return std::nullopt;
  return guest::find_agent(own_agents(core.paths()), record.agent);
}

void set_up_agent(LiveSandbox& live, const guest::AgentDefinition& agent,
                  const std::map<std::string, std::string>& variables, Deadline deadline) {
  const auto control = live.control();
  if (!control) refuse(agent, "the guest's agent port does not answer");
  run_script(*control, agent, guest::system_script(agent), "", deadline);
  run_script(*control, agent, guest::home_script(agent), "agent", deadline);
  run_script(*control, agent, guest::variables_script(variables), "", deadline);
}

void lend_credentials(LiveSandbox& live, const guest::AgentDefinition& agent, const std::vector<guest::AgentFile>& lent,
                      Deadline deadline) {
  const auto control = live.control();
  if (!control) refuse(agent, "the guest's agent port does not answer");
  run_script(*control, agent, guest::credentials_script(agent, lent), "agent", deadline);
}

void begin_session(LiveSandbox& live, const TerminalSession& session, const guest::AgentDefinition& agent,
                   const std::vector<std::string>& task, Deadline deadline) {
  guest::ExecSpec spec;
  spec.workdir = session.folder;
  prepare_recording(live);
  spec.argv = {"tmux", "-u",    "new-session", "-d", "-s", session.name, "-c", tmux_word(session.folder),
               "-x",   columns, "-y",          rows};
  for (auto& word : guest::session_command(agent, session.name, task)) spec.argv.push_back(tmux_word(std::move(word)));
  for (auto& word : guest::bell_words(session.name)) spec.argv.push_back(std::move(word));
  for (auto& word : recording_words(session.name)) spec.argv.push_back(std::move(word));
  const auto process = live.session(Session::control, deadline)->exec(spec, deadline);
  const auto status = process->wait(deadline);
  if (status && status->shell_code() == 0) return;
  char words[512];
  const auto err = process->take_err();
  const auto count = read_some(err.get(), words, sizeof words, deadline);
  refuse(agent, std::string(words, count));
}

Json agent_status(Core& core, const SandboxRecord& record) {
  if (record.agent == no_agent) return nullptr;
  Json status{{"name", record.agent}, {"title", record.agent}, {"version", nullptr}};
  try {
    const auto agent = agent_of(core, record);
    status["title"] = agent->title;
    // It keeps the layer that it was started with, whatever an update chose since.
    if (const auto version = layer_version(core.paths(), record.layer); !version.empty()) status["version"] = version;
  } catch (const Error&) {
    // Its definition is gone; what was started from it goes on.
  }
  status.update(session_json(core, record, session_name(record)));
  status["worktrees"] = Json::array();
  for (const auto& worktree : record.worktrees) {
    if (worktree.branch.empty()) continue;
    auto session = session_json(core, record, worktree_session(record, worktree.branch));
    if (session["state"].is_null()) continue;
    session["branch"] = clean_guest_text(worktree.branch);
    status["worktrees"].push_back(std::move(session));
  }
  return status;
}

}  // namespace agentvm::manager
