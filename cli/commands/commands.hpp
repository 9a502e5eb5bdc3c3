#pragma once
// One function per command file: its rows of the table.

#include "cli/commands/command.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::cli {

CommandSpec start_command();
CommandSpec attach_command();
CommandSpec exec_command();
CommandSpec run_command();
CommandSpec ssh_command();
CommandSpec ssh_config_command();
CommandSpec open_vscode_command();
CommandSpec sync_command();
std::vector<CommandSpec> worktree_commands();
std::vector<CommandSpec> wip_commands();
CommandSpec rescue_command();
CommandSpec status_command();
CommandSpec ports_command();
CommandSpec open_command();
CommandSpec forward_command();
CommandSpec list_command();
CommandSpec stop_command();
CommandSpec suspend_command();
CommandSpec resume_command();
CommandSpec destroy_command();
CommandSpec logs_command();
CommandSpec replay_command();
std::vector<CommandSpec> egress_commands();
std::vector<CommandSpec> image_commands();
CommandSpec agents_command();
CommandSpec agents_update_command();
CommandSpec agents_pin_command();
CommandSpec plan_command();
std::vector<CommandSpec> config_commands();
CommandSpec trust_command();
CommandSpec doctor_command();
std::vector<CommandSpec> manager_commands();
CommandSpec completion_command();
CommandSpec complete_command();
CommandSpec help_command();
CommandSpec version_command();

/// `image build --agents`: layers instead of an image.
int build_agents(Invocation& run);
/// `sync --artifacts`: build products instead of commits.
int bring_artifacts(Invocation& run);
/// The manager's log, as `logs --manager` shows it. Shared by logs and manager.
int show_manager_log(Invocation& run);
/// The sandbox and, with --worktree, the session that a command means. Shared by logs and replay.
Json terminal_params(Invocation& run);
/// Attaches this terminal to the sandbox of `params`; 0 on detach. Shared by attach and start.
int attach_terminal(Invocation& run, Json params);

}  // namespace agentvm::cli
