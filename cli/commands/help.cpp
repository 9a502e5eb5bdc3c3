#include "cli/render/help.hpp"

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"

namespace agentvm::cli {
namespace {

int help(Invocation& run) {
  if (run.args.enabled("markdown")) return run.out.print(reference_markdown()), 0;
  if (run.args.enabled("man")) return run.out.print(man_page()), 0;
  if (run.args.enabled("man-configuration")) return run.out.print(configuration_man_page()), 0;
  std::string topic;
  for (const auto& word : run.args.positionals) topic += (topic.empty() ? "" : " ") + word;
  const auto& style = run.out.out_style();
  if (topic.empty()) return run.out.print(help_overview(style)), 0;
  if (const auto* command = find_command(topic)) return run.out.print(help_command_text(*command, style)), 0;
  std::vector<std::string> names;
  for (const auto& command : command_table()) {
    if (command.name.starts_with(topic + " ")) return run.out.print(help_family(topic, style)), 0;
    if (!command.hidden) names.push_back(command.name);
  }
  const auto meant = nearest(topic, names);
  throw Error(
      ErrorCode::usage,
      fmt::format("there is no command '{}'{}", topic, meant.empty() ? "" : fmt::format("; did you mean '{}'?", meant)),
      meant.empty() ? "agentvm help" : "agentvm help " + meant);
}

}  // namespace

CommandSpec help_command() {
  return {.name = "help",
          .group = "Host and settings",
          .summary = "Show the commands, or one of them in full",
          .arguments = {{.name = "COMMAND", .help = "A command", .repeatable = true, .complete = Complete::command}},
          .options = {{.name = "markdown", .help = "The reference as Markdown", .hidden = true},
                      {.name = "man", .help = "The man page", .hidden = true},
                      {.name = "man-configuration", .help = "The man page of agentvm.yaml", .hidden = true}},
          .run = help};
}

}  // namespace agentvm::cli
