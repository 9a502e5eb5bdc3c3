#pragma once
// How a guest process meets the words, streams and terminal of this one (exec, run), how this one becomes a program of
// the host's (ssh, open-vscode), and what they do where the sandbox does not run.

#include "cli/client/invocation.hpp"
#include "cli/client/session.hpp"
#include "cli/commands/command.hpp"

namespace agentvm::cli {

/// Captured with --json; a terminal where both ends of ours are one, and as --tty and --no-tty say. Throws `usage`.
SessionOptions::Mode process_mode(Invocation& run);
/// Adds what --env, --workdir and the terminal say: guest_env, workdir, tty, columns, rows, term. Throws `usage`.
void add_process_params(Invocation& run, SessionOptions::Mode mode, Json& params);
OptionSpec env_option();
/// Becomes `words[0]`, a path. Throws when that cannot be executed.
[[noreturn]] void hand_over(Invocation& run, std::vector<std::string> words);

/// Starts or resumes the sandbox that `params` mean where its settings say `autostart`; else returns false.
bool bring_up(Invocation& run, const Json& params);

/// `action`; where it throws `wrong_state` and the sandbox can be brought up, once more.
template <typename Action>
auto with_autostart(Invocation& run, const Json& params, const Action& action) {
  try {
    return action();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::wrong_state || !bring_up(run, params)) throw;
  }
  return action();
}

}  // namespace agentvm::cli
