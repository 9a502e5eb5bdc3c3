// The table: what there is, in the order in which help shows it.

#include <algorithm>

#include <fmt/format.h>

#include "cli/commands/commands.hpp"
#include "vmm/config.hpp"

namespace agentvm::cli {
namespace {

std::vector<CommandSpec> make_table() {
  std::vector<CommandSpec> table;
  const auto add = [&](CommandSpec command) { table.push_back(std::move(command)); };
  const auto add_all = [&](std::vector<CommandSpec> commands) {
    for (auto& command : commands) table.push_back(std::move(command));
  };
  add(start_command());
  add(attach_command());
  add(exec_command());
  add(run_command());
  add(ssh_command());
  add(ssh_config_command());
  add(open_vscode_command());
  add(sync_command());
  add_all(worktree_commands());
  add_all(wip_commands());
  add(rescue_command());
  add(status_command());
  add(list_command());
  add(ports_command());
  add(open_command());
  add(forward_command());
  add(logs_command());
  add(replay_command());
  add(stop_command());
  add(suspend_command());
  add(resume_command());
  add(destroy_command());
  add_all(egress_commands());
  add_all(image_commands());
  add(agents_command());
  add(agents_update_command());
  add(agents_pin_command());
  add(plan_command());
  add_all(config_commands());
  add(trust_command());
  add(doctor_command());
  add_all(manager_commands());
  add(completion_command());
  add(help_command());
  add(version_command());
  add(complete_command());
  return table;
}

}  // namespace

const std::vector<CommandSpec>& command_table() {
  static const auto table = make_table();
  return table;
}

const CommandSpec* find_command(std::string_view name) {
  for (const auto& command : command_table()) {
    if (command.name == name) return &command;
    for (const auto& alias : command.aliases)
      if (alias == name) return &command;
  }
  return nullptr;
}

const OptionSpec* CommandSpec::option(std::string_view wanted) const {
  for (const auto& option : options)
    if (option.name == wanted) return &option;
  return nullptr;
}

const std::vector<OptionSpec>& common_options() {
  static const std::vector<OptionSpec> options = {
      {.name = "help", .letter = 'h', .help = "Show what this command does"}};
  return options;
}

OptionSpec json_option() {
  return {.name = "json", .help = "Print one JSON object on standard output"};
}

ArgumentSpec sandbox_argument() {
  return {.name = "NAME", .help = "The sandbox; without it, the one of this project", .complete = Complete::sandbox};
}

std::vector<OptionSpec> config_options() {
  std::vector<OptionSpec> options;
  for (const auto& key : config_keys()) {
    if (key.flag.empty()) continue;
    OptionSpec option{
        .name = std::string(key.flag.substr(2)), .help = std::string(key.help), .key = std::string(key.name)};
    switch (key.type) {
      case KeyType::boolean:
        option.negatable = true;
        break;
      case KeyType::size:
        option.value = "SIZE";
        break;
      case KeyType::count:
        option.value = "N";
        break;
      case KeyType::image:
        option.value = "IMAGE";
        option.complete = Complete::image;
        break;
      case KeyType::choice: {
        option.value = "MODE";
        for (std::string_view rest = key.choices; !rest.empty();) {
          const auto bar = std::min(rest.find('|'), rest.size());
          option.choices.emplace_back(rest.substr(0, bar));
          rest.remove_prefix(std::min(bar + 1, rest.size()));
        }
        break;
      }
      case KeyType::choices:
        option.value = "NAMES";
        option.help += fmt::format(" (several with commas): {}", key.choices);
        std::replace(option.help.begin(), option.help.end(), '|', ' ');
        break;
      default:
        option.value = key.type == KeyType::branch ? "BRANCH" : "NAME";
    }
    options.push_back(std::move(option));
  }
  return options;
}

}  // namespace agentvm::cli
