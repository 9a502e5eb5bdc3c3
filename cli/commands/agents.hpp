#pragma once
// What chooses versions of agent programs: rows of the table, of the same file as `agents list`.

#include "cli/commands/command.hpp"

namespace agentvm::cli {

CommandSpec agents_update_command();
CommandSpec agents_pin_command();

}  // namespace agentvm::cli
