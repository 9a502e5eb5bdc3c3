#pragma once
// Everything written from the command table. Pure functions of the table.

#include "cli/client/output.hpp"
#include "cli/commands/command.hpp"

namespace agentvm::cli {

std::string help_overview(const Style& style);
/// `command` in full.
std::string help_command_text(const CommandSpec& command, const Style& style);
/// The commands that begin with `family` ("image").
std::string help_family(const std::string& family, const Style& style);
/// "agentvm exec [NAME] [options] -- CMD...".
std::string synopsis(const CommandSpec& command);
/// "-e, --env K=V".
std::string option_text(const OptionSpec& option);

/// docs/reference/commands.md.
std::string reference_markdown();
/// agentvm.1, troff.
std::string man_page();
/// agentvm.yaml.5, troff: the table of configuration keys.
std::string configuration_man_page();

std::string bash_completion();
std::string zsh_completion();
std::string fish_completion();

/// What may stand in place of `words.back()`, the last of the words after `agentvm`; "\tword" lines with descriptions
/// after a tab. Names of sandboxes and images are not known here: they come back as "@sandbox" and "@image"; "@file"
/// and "@directory" mean paths.
std::vector<std::pair<std::string, std::string>> complete_words(const std::vector<std::string>& words);

}  // namespace agentvm::cli
