#pragma once
// Programs in a guest that a client sees as its own: exec and attach.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// `exec`: hands the streams over and answers when the process ended.
void exec_in_guest(Core& core, const std::shared_ptr<Responder>& call, const Json& params);
/// `attach`: the sandbox's tmux session on the client's terminal; made when it is not there.
void attach_to_guest(Core& core, const std::shared_ptr<Responder>& call, const Json& params);

/// The running sandbox of a request with what is open into it; throws `wrong_state` naming the command that helps.
/// Waits for a manager that is just taking over.
std::pair<SandboxRecord, std::shared_ptr<LiveSandbox>> running_sandbox(Core& core, const Json& params);
/// The guest's folder for the host folder `cwd`: /workspace, or the same subfolder of it when `cwd` is inside the
/// project.
std::string guest_folder(const SandboxRecord& record, const fs::path& cwd);
/// "<sandbox>-<branch>", as tmux takes it.
std::string session_name(const SandboxRecord& record);

/// A process in a guest that a client is about to see as its own.
struct GuestProcess {
  std::string sandbox;
  std::shared_ptr<guest::Exec> process;
  bool terminal = false;
};
/// What `exec` is asked for: {name, argv, guest_env, user, workdir, worktree, cwd, tty, term, columns, rows}.
GuestProcess start_command(Core& core, const Json& params, Deadline deadline);
/// Hands the process's streams to the client and passes its messages on. `finished` is called once, after the event
/// "ended": when the process has ended (on a thread that must not block), or when the client is gone and the process
/// was hung up. It answers the request.
void serve_process(Core& core, const std::shared_ptr<Responder>& call, GuestProcess served,
                   std::function<void(const guest::GuestStatus&)> finished);

/// A raw TCP connection into the guest, handed to the client as one stream. Answers once it is there.
void connect_to_guest(Core& core, const std::shared_ptr<Responder>& call, const Json& params);

}  // namespace agentvm::manager
