#pragma once
// Recordings of terminal sessions: begun with each session that we begin or attach to, kept in a ring in the guest, and
// copied to the host into <sandbox>/terminals/<session>/: when somebody asks, every minute, and before an orderly stop.
// What is in them is read by the client alone.

#include "cli/manager/ops/core.hpp"

namespace agentvm::manager {

/// Words for tmux, to follow `new-session`: record the session's first window, unless that is done already. The guest
/// has to have the program (`prepare_recording`); where it has not, nothing is recorded.
std::vector<std::string> recording_words(const std::string& session);
/// Makes the agent's program one that the guest's users can run, so that `recording_words` find it. A guest that
/// refuses has no recording, and a line in the log. Within seconds.
void prepare_recording(LiveSandbox& live);
/// A word of a command of tmux's: one that ends with ';' would end the command.
std::string tmux_word(std::string word);

/// Copies what is new of one session. Throws where the guest does not answer in time or breaks the protocol.
void fetch_recording(Core& core, const SandboxRecord& record, LiveSandbox& live, const std::string& session,
                     Deadline deadline);
/// All sessions of a running sandbox. Best effort, within seconds.
void keep_recordings(Core& core, const SandboxRecord& record);
/// From now on, until the manager ends: every minute, for each sandbox that runs.
void keep_recordings_in_time(Core& core);

/// `recording` {name, worktree}: {"name", "session", "live", "folder", "problem"}; the folder is of the host, has what
/// could be copied now, and may not be there. `problem`: why there may be more, or null.
Json recording(Core& core, const Json& params);

}  // namespace agentvm::manager
