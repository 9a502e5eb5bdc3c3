#include "cli/manager/ops/sessions.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/agent_session.hpp"
#include "cli/manager/ops/recordings.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/running.hpp"
#include "cli/manager/ops/worktrees.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds session_limit{30'000};

Json to_json(const guest::GuestStatus& status) {
  using Kind = guest::GuestStatus::Kind;
  if (status.kind == Kind::exited) return {{"kind", "exited"}, {"code", status.code}};
  if (status.kind == Kind::signaled) return {{"kind", "signaled"}, {"signal", status.signal}};
  return {{"kind", "lost"}};
}

guest::PtySize pty_size(const Json& message) {
  constexpr unsigned widest = 4096;
  return {std::clamp(value_or<unsigned>(message, "columns", 80), 1u, widest),
          std::clamp(value_or<unsigned>(message, "rows", 24), 1u, widest)};
}

/// Resize and signal messages of the client, applied to the process.
void follow_messages(CallContext& call, const std::shared_ptr<guest::Exec>& process) {
  call.on_message([weak = std::weak_ptr(process)](const Json& message) {
    const auto target = weak.lock();
    if (!target) return;
    try {
      const auto method = value_or<std::string>(message, "method", "");
      if (method == "resize") target->resize(pty_size(message));
      if (method == "signal") target->signal(value_or<std::string>(message, "name", ""));
    } catch (const Error& error) {
      log::debug("exec", "a message of the client was dropped: {}", error.what());
    }
  });
}

/// Its own session and no streams: it outlives this connection. setsid returns before it knows whether the program can
/// be run, so that is asked first.
/// The status of a shell that could not run it; nothing when it runs.
std::optional<int> start_detached(guest::Streams& session, guest::ExecSpec spec, Deadline deadline) {
  const auto program = spec.argv[0];
  spec.argv.insert(spec.argv.begin(),
                   {"sh", "-c",
                    "case $1 in */*) [ -e \"$1\" ] || exit 127; [ -f \"$1\" ] && [ -x \"$1\" ] || exit 126 ;; "
                    "*) command -v -- \"$1\" >/dev/null 2>&1 || exit 127 ;; esac; "
                    "exec setsid --fork -- \"$@\" </dev/null >/dev/null 2>&1",
                    "sh"});
  spec.pty.reset();
  const auto status = session.exec(spec, deadline)->wait(deadline);
  if (!status) throw Error(ErrorCode::timed_out, fmt::format("'{}' was not started in time", program));
  return status->shell_code() == 0 ? std::nullopt : std::optional(status->shell_code());
}

/// What makes a sandbox that does not run one that does.
std::string command_to_run(const SandboxRecord& record) {
  if (record.state == SandboxState::starting || record.state == SandboxState::preparing)
    return "agentvm status " + record.name.str();
  if (record.state == SandboxState::paused || record.state == SandboxState::saved)
    return "agentvm resume " + record.name.str();
  return "agentvm start " + record.project.string();
}

}  // namespace

std::pair<SandboxRecord, std::shared_ptr<LiveSandbox>> running_sandbox(Core& core, const Json& params) {
  auto record = core.as_seen(core.resolve(params));
  if (record.state != SandboxState::running) {
    const auto why = record.message.empty() ? std::string() : " (" + record.message + ")";
    throw Error(ErrorCode::wrong_state,
                fmt::format("'{}' is {}, not running{}", record.name.str(), to_string(record.state), why),
                command_to_run(record));
  }
  auto live = core.live(record.name);
  if (!live)
    throw Error(ErrorCode::operation_failed,
                fmt::format("'{}' runs, but the manager has no connection to it", record.name.str()),
                "agentvm stop " + record.name.str());
  return {std::move(record), std::move(live)};
}

std::string guest_folder(const SandboxRecord& record, const fs::path& cwd) {
  if (cwd.empty()) return "/workspace";
  try {
    const auto project = find_project(cwd);
    if (project.root == record.project && !project.subfolder.empty())
      return (fs::path("/workspace") / project.subfolder).string();
  } catch (const Error&) {
    // Elsewhere on the host: the workspace itself.
  }
  return "/workspace";
}

/// The folder that a request means: its work tree's, else /workspace.
std::string base_folder(Core& core, const SandboxRecord& record, LiveSandbox& live, const Json& params) {
  const auto branch = optional_text(params, "worktree");
  return branch ? worktree_path(core, record, live, *branch, Deadline::after(session_limit)) : "/workspace";
}

std::string session_name(const SandboxRecord& record) {
  return record.name.str() + "-" + branch_label(record.branch.empty() ? "detached" : record.branch);
}

void serve_process(Core& core, const std::shared_ptr<Responder>& call, GuestProcess served,
                   std::function<void(const guest::GuestStatus&)> finished) {
  follow_messages(*call, served.process);
  std::vector<UniqueFd> streams;
  streams.push_back(served.process->take_io());
  if (!served.terminal) streams.push_back(served.process->take_err());
  call->send_streams(std::move(streams));
  struct Running {
    std::shared_ptr<guest::Exec> process;  // reset by the janitor alone
    std::optional<std::stop_callback<std::function<void()>>> on_cancel;
    std::once_flag over;
    std::function<void(const guest::GuestStatus&)> finished;
  };
  auto running = std::make_shared<Running>();
  running->process = served.process;
  running->finished = [call, finished = std::move(finished)](const guest::GuestStatus& status) {
    call->ended(to_json(status));
    finished(status);
  };
  // Hanging up may wait for the session's thread, so neither the server's thread nor the process's own callback does
  // it.
  const auto hang_up = [&core, lane = "hang up " + served.sandbox, weak = std::weak_ptr(running)] {
    core.janitor().post(lane, [weak] {
      const auto held = weak.lock();
      if (!held) return;
      held->process.reset();
      std::call_once(held->over, held->finished, guest::GuestStatus{});
    });
  };
  running->on_cancel.emplace(call->cancelled(), hang_up);
  served.process->on_end([running, hang_up](const guest::GuestStatus& status) {
    std::call_once(running->over, running->finished, status);
    hang_up();
  });
}

namespace {

guest::ExecSpec spec_of(Core& core, const SandboxRecord& record, LiveSandbox& live, const Json& params) {
  guest::ExecSpec spec;
  spec.argv = require<std::vector<std::string>>(params, "argv");
  if (spec.argv.empty()) throw Error(ErrorCode::usage, "no command to run", "agentvm exec -- CMD");
  spec.env = value_or<std::map<std::string, std::string>>(params, "guest_env", {});
  spec.user = text_or_empty(params, "user");
  const auto asked = text_or_empty(params, "workdir");
  const auto mapped = base_folder(core, record, live, params) +
                      guest_folder(record, text_or_empty(params, "cwd")).substr(std::string("/workspace").size());
  spec.workdir = asked.empty()            ? mapped
                 : asked.starts_with("/") ? asked
                                          : (fs::path(mapped) / asked).lexically_normal().string();
  if (value_or<bool>(params, "tty", false)) {
    spec.pty = pty_size(params);
    spec.term = value_or<std::string>(params, "term", spec.term);
  }
  return spec;
}

}  // namespace

GuestProcess start_command(Core& core, const Json& params, Deadline deadline) {
  const auto [record, live] = running_sandbox(core, params);
  const auto spec = spec_of(core, record, *live, params);
  // Bulk data beside it must not delay what is typed.
  const auto session =
      spec.pty ? live->session(Session::control, deadline) : command_session(core, record.name, *live, deadline);
  return {record.name.str(), session->exec(spec, deadline), spec.pty.has_value()};
}

void exec_in_guest(Core& core, const std::shared_ptr<Responder>& call, const Json& params) {
  const auto deadline = Deadline::after(session_limit);
  if (value_or<bool>(params, "detach", false)) {
    const auto [record, live] = running_sandbox(core, params);
    const auto spec = spec_of(core, record, *live, params);
    const auto failed = start_detached(*live->session(Session::control, deadline), spec, deadline);
    Json result{{"schema", "agentvm.exec/1"}, {"detached", !failed}, {"exit_code", failed.value_or(0)}};
    if (failed) {
      result["message"] = fmt::format("'{}' {} in the guest", spec.argv.at(0),
                                      *failed == 127 ? "was not found" : "could not be started");
    }
    return call->respond(std::move(result));
  }
  serve_process(core, call, start_command(core, params, deadline), [call](const guest::GuestStatus&) {
    call->respond({{"schema", "agentvm.exec/1"}});
  });
}

void connect_to_guest(Core& core, const std::shared_ptr<Responder>& call, const Json& params) {
  constexpr milliseconds limit{15'000};
  const auto [record, live] = running_sandbox(core, params);
  const auto port = require<std::uint16_t>(params, "port");
  core.front().connect(
      record.name, port, Deadline::after(limit),
      [call, port, name = record.name.str()](UniqueFd connection, const std::string& problem) {
        if (!connection)
          return call->fail(Error(ErrorCode::operation_failed,
                                  fmt::format("port {} of {} does not answer: {}", port, name, problem),
                                  "agentvm ports " + name));
        std::vector<UniqueFd> streams;
        streams.push_back(std::move(connection));
        call->send_streams(std::move(streams));
        call->respond({{"schema", "agentvm.connect/1"}});
      });
}

namespace {
/// Where there is no session any more, the one that attaching begins has the sandbox's agent in it.
void add_agent(Core& core, const SandboxRecord& record, const std::string& session, std::vector<std::string>& argv) {
  try {
    const auto agent = agent_of(core, record);
    if (!agent) return;
    for (const auto& words : {guest::session_command(*agent, session, {}), guest::bell_words(session)})
      argv.insert(argv.end(), words.begin(), words.end());
  } catch (const Error& error) {
    log::info("attach", "{}: a shell, because {}", record.name.str(), error.what());  // its definition is gone
  }
}
}  // namespace

namespace {

/// Runs tmux (arguments from the second on) and says what became of the session (the first), as an `AttachEnd`. The
/// guest's own words: nothing but what is shown follows from them.
constexpr const char* attach_script =
    "session=$1; shift; \"$@\"; code=$?;"
    " if tmux has-session -t \"=$session\" 2>/dev/null; then [ $code = 0 ] || exit 81; exit 0; fi;"
    " [ $code = 0 ] || exit 83; exit 82";
enum AttachEnd { detached = 0, refused = 81, ended = 82, absent = 83 };

void answer_attach(Responder& call, const std::string& sandbox, const std::string& session, bool read_only,
                   const guest::GuestStatus& status) {
  using Kind = guest::GuestStatus::Kind;
  const auto hint = "agentvm attach " + sandbox;
  if (status.kind == Kind::lost)
    return call.fail(Error(ErrorCode::operation_failed, "the connection to the guest was lost", hint));
  if (status.kind == Kind::exited && status.code == AttachEnd::absent && read_only)
    return call.fail(Error(ErrorCode::not_found,
                           fmt::format("there is no session {} to look at: attaching begins it", session), hint));
  if (status.kind == Kind::exited && status.code == AttachEnd::refused)
    return call.fail(Error(ErrorCode::operation_failed,
                           fmt::format("tmux in the guest refused this terminal; session {} goes on", session),
                           "TERM=xterm " + hint));
  const bool over =
      status.kind == Kind::exited && (status.code == AttachEnd::ended || status.code == AttachEnd::absent);
  call.respond({{"schema", "agentvm.attach/1"},
                {"session", session},
                {"message", over ? fmt::format("session {} has ended", session)
                                 : fmt::format("detached from {}; it goes on", session)}});
}

}  // namespace

void attach_to_guest(Core& core, const std::shared_ptr<Responder>& call, const Json& params) {
  const auto [record, live] = running_sandbox(core, params);
  const auto branch = optional_text(params, "worktree");
  const auto name = branch ? worktree_session(record, *branch) : session_name(record);
  const auto folder = base_folder(core, record, *live, params);
  const bool read_only = value_or<bool>(params, "read_only", false);
  guest::ExecSpec spec;
  spec.argv = {"sh", "-c", attach_script, "sh", name, "tmux", "-u"};
  const auto words = read_only ? std::vector<std::string>{"attach-session", "-r", "-t", "=" + name}
                               : std::vector<std::string>{"new-session", "-A", "-s", name, "-c", tmux_word(folder)};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  const auto deadline = Deadline::after(session_limit);
  if (!read_only) {
    prepare_recording(*live);
    add_agent(core, record, name, spec.argv);
    for (auto& word : recording_words(name)) spec.argv.push_back(std::move(word));
  }
  spec.workdir = folder;
  spec.pty = pty_size(params);
  spec.term = value_or<std::string>(params, "term", spec.term);
  GuestProcess terminal{record.name.str(), live->session(Session::control, deadline)->exec(spec, deadline), true};
  auto looking = core.agents().look(record.name, name);
  serve_process(
      core, call, std::move(terminal),
      [call, name, looking, sandbox = record.name.str(), read_only](const guest::GuestStatus& status) mutable {
        looking.reset();
        answer_attach(*call, sandbox, name, read_only, status);
      });
}

}  // namespace agentvm::manager
