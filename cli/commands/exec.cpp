#include "cli/client/invocation.hpp"
#include "cli/client/session.hpp"
#include "cli/commands/commands.hpp"
#include "cli/commands/process.hpp"
#include "cli/render/table.hpp"

namespace agentvm::cli {
namespace {

Json exec_params(Invocation& run, SessionOptions::Mode mode) {
  auto params = run.params();
  params["argv"] = run.args.trailing;
  if (run.args.given("worktree")) params["worktree"] = run.args.text("worktree");
  if (run.args.given("user")) params["user"] = run.args.text("user");
  params["detach"] = run.args.enabled("detach");
  add_process_params(run, mode, params);
  return params;
}

int exec(Invocation& run) {
  const auto mode = process_mode(run);
  const auto params = exec_params(run, mode);
  for (int attempt = 1;; ++attempt) {
    SessionEnd end;
    try {
      end = with_autostart(run, params, [&] {
        auto connection = connect_manager(run.paths, Spawn::allowed);
        return run_session(connection, "exec", params, {mode}, run.out);
      });
    } catch (const ManagerLost&) {
      // Before any stream came: it was leaving as we connected. Once more is safe only then.
      if (attempt == 1) continue;
      throw Error(ErrorCode::operation_failed, "the manager ended before the command began", "agentvm manager logs");
    }
    if (end.lost)
      throw Error(ErrorCode::operation_failed, "the manager was lost: the state of the guest process is unknown",
                  "agentvm status");
    if (run.args.enabled("detach")) {
      if (const auto code = static_cast<int>(number_at(end.result, "exit_code")); code != 0) {
        run.out.fail(Error(ErrorCode::operation_failed, text_at(end.result, "message", "it was not started")), code,
                     "guest");
        return code;
      }
      if (run.out.json()) run.out.print_json(end.result);
      run.out.say("started in the guest");
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
                      env_option(),
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
