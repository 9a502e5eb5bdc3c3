#include <cstdlib>

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/client/session.hpp"
#include "cli/client/terminal.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/table.hpp"

namespace agentvm::cli {
namespace {

Json added_environment(const Arguments& arguments) {
  Json env = Json::object();
  for (const auto& entry : arguments.all("env")) {
    const auto equals = entry.find('=');
    if (equals == 0) throw Error(ErrorCode::usage, fmt::format("--env: '{}' has no name", entry), "agentvm help exec");
    if (equals != std::string::npos) {
      env[entry.substr(0, equals)] = entry.substr(equals + 1);
    } else if (const char* value = std::getenv(entry.c_str())) {
      env[entry] = value;
    } else {
      throw Error(ErrorCode::usage, fmt::format("--env: '{}' is not set here; write {}=VALUE", entry, entry),
                  "agentvm help exec");
    }
  }
  return env;
}

SessionOptions::Mode mode_of(Invocation& run) {
  if (run.out.json()) {
    if (run.args.given("tty") && run.args.enabled("tty"))
      throw Error(ErrorCode::usage, "--tty and --json exclude each other", "agentvm help exec");
    return SessionOptions::Mode::captured;
  }
  if (run.args.given("tty")) {
    const bool wanted = run.args.enabled("tty");
    return wanted ? SessionOptions::Mode::terminal : SessionOptions::Mode::plain;
  }
  return on_terminal() && !run.args.enabled("detach") ? SessionOptions::Mode::terminal : SessionOptions::Mode::plain;
}

Json exec_params(Invocation& run, SessionOptions::Mode mode) {
  auto params = run.params();
  params["argv"] = run.args.trailing;
  params["guest_env"] = added_environment(run.args);
  if (run.args.given("workdir")) params["workdir"] = run.args.text("workdir");
  if (run.args.given("worktree")) params["worktree"] = run.args.text("worktree");
  if (run.args.given("user")) params["user"] = run.args.text("user");
  params["tty"] = mode == SessionOptions::Mode::terminal;
  params["detach"] = run.args.enabled("detach");
  if (mode == SessionOptions::Mode::terminal) {
    const auto size = terminal_size();
    const char* term = std::getenv("TERM");
    params["columns"] = size.columns;
    params["rows"] = size.rows;
    params["term"] = term && *term ? term : "xterm-256color";
  }
  return params;
}

int exec(Invocation& run) {
  const auto mode = mode_of(run);
  const auto params = exec_params(run, mode);
  for (int attempt = 1;; ++attempt) {
    auto connection = connect_manager(run.paths, Spawn::allowed);
    SessionEnd end;
    try {
      end = run_session(connection, "exec", params, {mode}, run.out);
    } catch (const ManagerLost&) {
      // Before any stream came: it was leaving as we connected. Once more is safe only then.
      if (attempt == 1) continue;
      throw Error(ErrorCode::operation_failed, "the manager ended before the command began", "agentvm manager logs");
    }
    if (end.lost)
      throw Error(ErrorCode::operation_failed, "the manager was lost: the state of the guest process is unknown",
                  "agentvm status");
    if (run.args.enabled("detach")) {
      if (run.out.json()) run.out.print_json(end.result);
      run.out.say(text_at(end.result, "message", "started in the guest"));
      return 0;
    }
    const int code = guest_exit_code(end.status);
    if (run.out.json())
      run.out.print_json({{"schema", "agentvm.exec/1"},
                          {"origin", code == 125 && text_at(end.status, "kind") == "lost" ? "agentvm" : "guest"},
                          {"exit_code", code},
                          {"status", end.status},
                          {"stdout", end.out},
                          {"stderr", end.err},
                          {"truncated", end.cut}});
    else if (text_at(end.status, "kind", "lost") == "lost")
      throw Error(ErrorCode::operation_failed,
                  "the connection to the guest was lost: the state of the guest process is unknown", "agentvm status");
    return code;
  }
}

}  // namespace

CommandSpec exec_command() {
  return {.name = "exec",
          .group = "Everyday",
          .summary = "Run a command in the sandbox",
          .description =
              "Standard streams pass through byte by byte and the status is the command's own; failures of "
              "agentvm itself are 125. Without --workdir it runs in the guest's copy of the folder you are in. "
              "A terminal is used where standard input and output are both terminals (--no-tty: never). With "
              "--json the output is collected into the object.",
          .arguments = {sandbox_argument()},
          .options = {{.name = "user", .value = "USER", .help = "Run as this guest user; default: agent"},
                      {.name = "env",
                       .letter = 'e',
                       .value = "K=V",
                       .help = "Set a variable; K alone passes ours on",
                       .repeatable = true},
                      {.name = "workdir", .letter = 'w', .value = "DIR", .help = "Folder in the guest"},
                      {.name = "worktree", .value = "BRANCH", .help = "In this branch's work tree"},
                      {.name = "tty", .letter = 't', .help = "Use a terminal in the guest", .negatable = true},
                      {.name = "detach", .letter = 'd', .help = "Leave it running and return at once"},
                      json_option()},
          .trailing = {"CMD", true},
          .examples = {{"agentvm exec -- make test", "in this project's sandbox"},
                       {"tar c . | agentvm exec web -- tar x -C /tmp", "bytes pass unchanged"}},
          .failures = Failures::guest_status,
          .run = exec};
}

}  // namespace agentvm::cli
