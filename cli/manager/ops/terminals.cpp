#include "cli/manager/ops/terminals.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "cli/manager/ops/worktrees.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds ask_limit{10'000};
constexpr std::size_t limit_bytes = 1u << 20;

fs::path kept_file(Core& core, const SandboxRecord& record, const std::string& session) {
  return core.store().folder(record.name) / sandbox_files::terminals / (session + ".txt");
}

/// The session's scrollback and screen; nothing when there is no such session.
std::optional<std::string> capture(guest::Control& control, const std::string& session, Deadline deadline) {
  // The end counts, and the answer keeps the beginning of what is too long.
  const auto script = fmt::format("set -e; tmux has-session -t {0}; tmux capture-pane -p -J -S - -t {1} | tail -c {2}",
                                  shell_word("=" + session), shell_word("=" + session + ":"), limit_bytes);
  const auto result = control.exec({.argv = {"sh", "-c", script}, .user = "agent"}, deadline, limit_bytes);
  if (!result.ok()) return std::nullopt;
  auto text = clean_guest_text(result.out, Newlines::keep, limit_bytes);
  text.resize(text.find_last_not_of(" \n") + 1);
  return text.empty() ? text : text + "\n";
}

std::string asked_session(const SandboxRecord& record, const Json& params) {
  const auto branch = optional_text(params, "worktree");
  return branch ? worktree_session(record, *branch) : session_name(record);
}

}  // namespace

Json agent_log(Core& core, const Json& params) {
  const auto record = core.as_seen(core.resolve(params));
  const auto session = asked_session(record, params);
  Json answer{{"schema", "agentvm.logs/1"}, {"name", record.name.str()}, {"session", session}, {"live", true}};
  if (record.state == SandboxState::running) {
    const auto live = running_sandbox(core, params).second;
    const auto control = live->control();
    if (!control)
      throw Error(ErrorCode::operation_failed, fmt::format("the agent port of '{}' does not answer", record.name.str()),
                  "agentvm status " + record.name.str());
    const auto text = capture(*control, session, Deadline::after(ask_limit));
    if (!text)
      throw Error(ErrorCode::not_found, fmt::format("'{}' has no terminal session {} now", record.name.str(), session),
                  "agentvm attach " + record.name.str());
    answer["text"] = *text;
    return answer;
  }
  const auto kept = read_file_if_exists(kept_file(core, record, session), 2 * limit_bytes);  // cut, then marked as cut
  if (!kept)
    throw Error(ErrorCode::not_found,
                fmt::format("nothing is kept of a terminal {} of '{}': that is done when a sandbox with an agent stops",
                            session, record.name.str()),
                "agentvm start " + record.project.string());
  answer["live"] = false;
  answer["text"] = *kept;
  return answer;
}

void keep_agent_logs(Core& core, const SandboxRecord& record) {
  if (record.agent == no_agent) return;
  const auto live = core.live(record.name);
  const auto control = live ? live->control() : nullptr;
  if (!control) return;
  const auto deadline = Deadline::after(ask_limit);
  std::vector<std::string> sessions{session_name(record)};
  for (const auto& worktree : record.worktrees)
    if (!worktree.branch.empty()) sessions.push_back(worktree_session(record, worktree.branch));
  try {
    ensure_private_dir(core.store().folder(record.name) / sandbox_files::terminals);
    for (const auto& session : sessions)
      if (const auto text = capture(*control, session, deadline))
        write_file_atomic(kept_file(core, record, session), *text);
  } catch (const Error& error) {
    log::info("stop", "{}: what its terminals showed is not kept: {}", record.name.str(), error.what());
  }
}

}  // namespace agentvm::manager
