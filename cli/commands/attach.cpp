#include <cstdlib>

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/client/session.hpp"
#include "cli/client/terminal.hpp"
#include "cli/commands/commands.hpp"
#include "cli/commands/process.hpp"
#include "cli/render/table.hpp"

namespace agentvm::cli {
namespace {

int attach(Invocation& run) {
  if (!on_terminal())
    throw Error(ErrorCode::usage, "attach needs a terminal on standard input and output", "agentvm exec -- CMD");
  const bool next = run.args.enabled("next");
  if (next && (run.args.positional(0) || run.args.given("worktree")))
    throw Error(ErrorCode::usage, "--next chooses the sandbox itself", "agentvm help attach");
  auto params = run.params();
  if (next) {
    const auto waiting = run.call("agents.next", request_params());
    params["name"] = require<std::string>(waiting, "name");
    const auto branch = value_or<std::string>(waiting, "worktree", "");
    if (!branch.empty()) params["worktree"] = branch;
    run.out.say("attaching to " + text_at(params, "name") + (branch.empty() ? "" : " on " + clean(branch)));
  }
  if (run.args.given("worktree")) params["worktree"] = run.args.text("worktree");
  params["read_only"] = run.args.enabled("read-only");
  return attach_terminal(run, std::move(params));
}

}  // namespace

int attach_terminal(Invocation& run, Json params) {
  constexpr int attempts = 2;  // the session in the guest outlives the manager, so a lost one is worth coming back once
  const char* term = std::getenv("TERM");
  params["term"] = term && *term ? term : "xterm-256color";
  for (int attempt = 1;; ++attempt) {
    const auto size = terminal_size();
    params["columns"] = size.columns;
    params["rows"] = size.rows;
    try {
      const auto end = with_autostart(run, params, [&] {
        auto connection = connect_manager(run.paths, Spawn::allowed);
        return run_session(connection, "attach", params, {SessionOptions::Mode::terminal}, run.out);
      });
      if (!end.lost) {
        run.out.say(text_at(end.result, "message", "detached"));
        return 0;
      }
    } catch (const ManagerLost&) {
    }
    if (attempt >= attempts)
      throw Error(ErrorCode::operation_failed,
                  "the manager was lost; the session in the guest goes on without a terminal", "agentvm attach");
    run.out.say("the manager was lost: attaching again");
  }
}

CommandSpec attach_command() {
  return {.name = "attach",
          .group = "Everyday",
          .summary = "Open the sandbox's terminal session",
          .description =
              "A tmux session in the guest: it goes on when this terminal closes, when you detach (Ctrl-b d) "
              "and when the manager ends.",
          .arguments = {sandbox_argument()},
          .options = {{.name = "worktree", .value = "BRANCH", .help = "The session of this branch's work tree"},
                      {.name = "read-only", .help = "Look on without typing"},
                      {.name = "next", .help = "The agent that has waited longest for you"}},
          .examples = {{"agentvm attach", "the session of this project's sandbox"},
                       {"agentvm attach --next", "whoever waits for you"}},
          .run = attach};
}

}  // namespace agentvm::cli
