#include "cli/render/help.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm/config.hpp"

namespace agentvm::cli {
namespace {

std::vector<std::string> groups() {
  std::vector<std::string> result;
  for (const auto& command : command_table())
    if (!command.hidden && std::find(result.begin(), result.end(), command.group) == result.end())
      result.push_back(command.group);
  return result;
}

std::string columns(const std::vector<std::pair<std::string, std::string>>& rows, const Style& style) {
  constexpr std::size_t widest = 26;
  std::size_t width = 0;
  for (const auto& [left, right] : rows)
    if (left.size() <= widest) width = std::max(width, left.size());
  std::string result;
  for (const auto& [left, right] : rows) {
    result += "  " + style.paint(Tone::strong, left);
    result += left.size() > width ? "\n" + std::string(width + 4, ' ') : std::string(width - left.size() + 2, ' ');
    result += right + "\n";
  }
  return result;
}

std::string option_help(const OptionSpec& option) {
  return option.choices.empty() ? option.help : fmt::format("{}: {}", option.help, fmt::join(option.choices, ", "));
}

std::vector<std::pair<std::string, std::string>> option_rows(const CommandSpec& command) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const auto* list : {&command.options, &common_options()})
    for (const auto& option : *list)
      if (!option.hidden) rows.emplace_back(option_text(option), option_help(option));
  return rows;
}

/// `text` in lines of at most 80 columns.
std::string wrapped(std::string_view text) {
  constexpr std::size_t columns_limit = 80;
  std::string result;
  std::size_t used = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find(' '), text.size());
    if (used > 0 && used + 1 + end > columns_limit) {
      result += '\n';
      used = 0;
    } else if (used > 0) {
      result += ' ';
      ++used;
    }
    result += text.substr(0, end);
    used += end;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

constexpr std::string_view exit_codes[][2] = {
    {"0", "done"},
    {"1", "not found: sandbox, image, git repository"},
    {"2", "wrong state: already running, not running"},
    {"3", "the operation failed"},
    {"4", "the host lacks something: accelerator, memory, disk, program"},
    {"5", "cancelled (130 when a signal ended it)"},
    {"6", "a decision is needed: gated, conflict, diverged, dirty"},
    {"7", "timed out"},
    {"64", "the command line or the configuration is wrong"},
    {"125", "exec and ssh: agentvm itself failed; any other status is the guest's own"},
};

constexpr std::string_view variables[][2] = {
    {"AGENTVM_HOME", "Folder for configuration, state, data and socket, instead of the XDG folders"},
    {"AGENTVM_CONFIG", "The user's configuration file"},
    {"NO_COLOR", "No colours"},
};

/// Markdown tables end a cell at a bar; angle brackets would be HTML.
std::string markdown(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '|') result += '\\';
    result += c;
  }
  return result;
}

/// Text for troff: backslashes and leading dots are commands, hyphens would become typographic.
std::string troff(std::string_view text) {
  std::string result;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) result += "\\&";
    if (c == '\\')
      result += "\\e";
    else if (c == '-')
      result += "\\-";
    else
      result += c;
    line_start = c == '\n';
  }
  return result;
}

}  // namespace

std::string option_text(const OptionSpec& option) {
  auto text = option.letter ? fmt::format("-{}, ", option.letter) : std::string();
  text += option.negatable ? fmt::format("--{0}, --no-{0}", option.name) : "--" + option.name;
  if (!option.value.empty()) text += " " + option.value;
  return text;
}

std::string synopsis(const CommandSpec& command) {
  std::string text = "agentvm " + command.name;
  for (const auto& argument : command.arguments) {
    const auto name = argument.name + (argument.repeatable ? "..." : "");
    text += argument.required ? " " + name : " [" + name + "]";
  }
  if (!command.options.empty()) text += " [options]";
  if (!command.trailing.name.empty())
    text += command.trailing.required ? fmt::format(" -- {}...", command.trailing.name)
                                      : fmt::format(" [-- {}...]", command.trailing.name);
  return text;
}

std::string help_overview(const Style& style) {
  std::string text = "A machine of its own for every coding agent.\n\nUsage: agentvm COMMAND [options]\n";
  for (const auto& group : groups()) {
    text += "\n" + style.paint(Tone::strong, group) + "\n";
    std::vector<std::pair<std::string, std::string>> rows;
    for (const auto& command : command_table())
      if (!command.hidden && command.group == group) rows.emplace_back(command.name, command.summary);
    text += columns(rows, style);
  }
  return text + "\nNAME is optional inside a project that has one sandbox. More: agentvm help COMMAND\n";
}

std::string help_command_text(const CommandSpec& command, const Style& style) {
  std::string text = fmt::format("{}\n\nUsage: {}\n", command.summary, synopsis(command));
  if (!command.aliases.empty()) text += fmt::format("Also:  agentvm {}\n", fmt::join(command.aliases, ", agentvm "));
  if (!command.description.empty()) text += "\n" + wrapped(command.description) + "\n";
  if (!command.arguments.empty()) {
    std::vector<std::pair<std::string, std::string>> rows;
    for (const auto& argument : command.arguments) rows.emplace_back(argument.name, argument.help);
    text += "\n" + style.paint(Tone::strong, "Arguments") + "\n" + columns(rows, style);
  }
  text += "\n" + style.paint(Tone::strong, "Options") + "\n" + columns(option_rows(command), style);
  if (!command.examples.empty()) {
    text += "\n" + style.paint(Tone::strong, "Examples") + "\n";
    for (const auto& example : command.examples) text += fmt::format("  {}\n      {}\n", example.line, example.text);
  }
  return text;
}

std::string help_family(const std::string& family, const Style& style) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const auto& command : command_table())
    if (!command.hidden && command.name.starts_with(family + " ")) rows.emplace_back(command.name, command.summary);
  return fmt::format("Usage: agentvm {} COMMAND\n\n{}\nMore: agentvm help {} COMMAND\n", family, columns(rows, style),
                     family);
}

std::string reference_markdown() {
  std::string text =
      "<!-- Generated by `agentvm help --markdown`; CI compares. -->\n# Commands\n\nResults go to standard output, "
      "talk to standard error. "
      "NAME is optional inside a project that has one sandbox.\n";
  for (const auto& group : groups()) {
    text += fmt::format("\n## {}\n", group);
    for (const auto& command : command_table()) {
      if (command.hidden || command.group != group) continue;
      text +=
          fmt::format("\n### agentvm {}\n\n{}.\n\n```\n{}\n```\n", command.name, command.summary, synopsis(command));
      if (!command.aliases.empty())
        text += fmt::format("\nAlso: `agentvm {}`.\n", fmt::join(command.aliases, "`, `agentvm "));
      if (!command.description.empty()) text += "\n" + command.description + "\n";
      if (!command.arguments.empty() || !command.options.empty()) text += "\n| | |\n|-|-|\n";
      for (const auto& argument : command.arguments)
        text += fmt::format("| `{}` | {} |\n", argument.name, markdown(argument.help));
      for (const auto& option : command.options)
        if (!option.hidden) text += fmt::format("| `{}` | {} |\n", option_text(option), markdown(option_help(option)));
      for (const auto& example : command.examples)
        text += fmt::format("\n    {}    # {}\n", example.line, example.text);
    }
  }
  text += "\n## Exit status\n\n| | |\n|-|-|\n";
  for (const auto& [code, meaning] : exit_codes) text += fmt::format("| {} | {} |\n", code, markdown(meaning));
  text += "\n## Environment\n\n| | |\n|-|-|\n";
  for (const auto& [name, meaning] : variables) text += fmt::format("| `{}` | {} |\n", name, markdown(meaning));
  return text + "\nEvery configuration key with a variable: see [configuration](configuration.md).\n";
}

std::string man_page() {
  std::string text = fmt::format(
      ".TH AGENTVM 1 \"\" \"agentvm {}\" \"User Commands\"\n.SH NAME\nagentvm \\- a machine of its own for every "
      "coding agent\n",
      AGENTVM_VERSION);
  text += ".SH SYNOPSIS\n.B agentvm\n.I COMMAND\n[options]\n";
  for (const auto& group : groups()) {
    std::string heading = group;
    std::transform(heading.begin(), heading.end(), heading.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    text += fmt::format(".SH {}\n", heading);
    for (const auto& command : command_table()) {
      if (command.hidden || command.group != group) continue;
      text += fmt::format(".SS {}\n{}.\n", troff(synopsis(command)), troff(command.summary));
      if (!command.description.empty()) text += fmt::format(".PP\n{}\n", troff(command.description));
      for (const auto& argument : command.arguments)
        text += fmt::format(".TP\n.I {}\n{}\n", troff(argument.name), troff(argument.help));
      for (const auto& option : command.options)
        if (!option.hidden)
          text += fmt::format(".TP\n.B {}\n{}\n", troff(option_text(option)), troff(option_help(option)));
      for (const auto& example : command.examples)
        text += fmt::format(".PP\n.EX\n{}    # {}\n.EE\n", troff(example.line), troff(example.text));
    }
  }
  text += ".SH EXIT STATUS\n";
  for (const auto& [code, meaning] : exit_codes) text += fmt::format(".TP\n.B {}\n{}\n", code, troff(meaning));
  text += ".SH ENVIRONMENT\n";
  for (const auto& [name, meaning] : variables) text += fmt::format(".TP\n.B {}\n{}\n", name, troff(meaning));
  return text + ".SH SEE ALSO\n.BR agentvm.yaml (5)\n";
}

std::string configuration_man_page() {
  std::string text = fmt::format(
      ".TH AGENTVM.YAML 5 \"\" \"agentvm {}\" \"File Formats\"\n.SH NAME\nagentvm.yaml \\- configuration of "
      "sandboxes\n",
      AGENTVM_VERSION);
  text += ".nh\n.SH SYNOPSIS\n";
  for (const auto* file : {"agentvm.yaml", "~/.config/agentvm/config.yaml"})
    text += fmt::format(".I {}\n.PP\n", troff(file));
  text += ".SH DESCRIPTION\n";
  for (const auto* paragraph :
       {"A value comes from the first of these that has one: flag, environment variable, agentvm.yaml at the root of "
        "the "
        "repository, your own file (~/.config/agentvm/config.yaml), default. A list in a stronger place replaces the "
        "weaker one, but for those to which every place adds.",
        "The project's file may have been written by a guest, so each key has a class. Harmless keys count everywhere. "
        "Widening keys give the guest more; in the project's file they count once you allowed that value with agentvm "
        "trust. Host-executing keys decide what runs on the host; in the project's file they are an error.",
        "Dots are levels: workspace.mode is written workspace: {mode: disk} or workspace.mode: disk."})
    text += fmt::format("{}\n.PP\n", troff(paragraph));
  text += ".SH KEYS\n";
  for (const auto& key : config_keys()) {
    text += fmt::format(".TP\n.B {}\n{}.\n", troff(key.name), troff(key.help));
    std::string facts = fmt::format("{}; {}", to_string(key.type), to_string(key.key_class));
    if (!key.choices.empty()) {
      std::string choices(key.choices);
      const bool range = key.type == KeyType::size || key.type == KeyType::count;
      const auto bar = [&] { return choices.find('|'); };
      for (auto at = bar(); at != choices.npos; at = bar()) choices.replace(at, 1, range ? " to " : ", ");
      facts += "; " + choices;
    }
    if (!key.default_value.empty()) facts += fmt::format("; default {}", key.default_value);
    if (!key.flag.empty()) facts += fmt::format("; {}", key.flag);
    if (!key.variable.empty()) facts += fmt::format("; {}", key.variable);
    if (key.adds_up) facts += "; every place adds to it";
    text += fmt::format("({})\n", troff(facts));
  }
  return text + ".SH SEE ALSO\n.BR agentvm (1),\nagentvm config show, agentvm config validate, agentvm trust\n";
}

}  // namespace agentvm::cli
