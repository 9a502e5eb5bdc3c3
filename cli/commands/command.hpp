#pragma once
// The shape of the command table. One table makes the parser, help, completions, man page and reference; see table.cpp.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::cli {

class Invocation;

/// What the shell offers for a word.
enum class Complete { nothing, sandbox, file, directory, image, command };

struct OptionSpec {
  std::string name;  ///< without the dashes
  char letter = 0;
  std::string value;  ///< "SIZE"; empty: a switch
  std::string help;   ///< one line, no full stop
  std::vector<std::string> choices = {};
  Complete complete = Complete::nothing;
  bool repeatable = false;
  bool hidden = false;
  std::string key = {};    ///< the configuration key that it sets
  bool negatable = false;  ///< a switch that also exists as --no-NAME
  bool greedy = false;     ///< takes every word up to the next option, none included; `value` says so in the help
};

struct ArgumentSpec {
  std::string name;  ///< "NAME"
  std::string help;
  bool required = false;
  bool repeatable = false;
  Complete complete = Complete::nothing;
  std::vector<std::string> choices = {};
};

/// The words after `--`.
struct TrailingSpec {
  std::string name;  ///< "CMD"; empty: the command takes none
  bool required = false;
};

struct Example {
  std::string line, text;
};

/// How a command's own failures become exit codes.
enum class Failures {
  plain,         ///< the table of exit codes
  guest_status,  ///< the guest's status passes through; our own failures are 125
};

struct CommandSpec {
  std::string name;  ///< "start", "image build"
  std::vector<std::string> aliases = {};
  std::string group;  ///< heading in the help
  std::string summary;
  std::string description = {};
  std::vector<ArgumentSpec> arguments = {};
  std::vector<OptionSpec> options = {};
  TrailingSpec trailing = {};
  std::vector<Example> examples = {};
  Failures failures = Failures::plain;
  bool hidden = false;
  int (*run)(Invocation&) = nullptr;  ///< returns the exit status; throws `Error`

  /// By its name without dashes, or nullptr.
  const OptionSpec* option(std::string_view wanted) const;
};

/// Every command, in the order of the help.
const std::vector<CommandSpec>& command_table();
/// By name or alias ("image build", "ls"); nullptr when there is none.
const CommandSpec* find_command(std::string_view name);
/// Options that every command takes.
const std::vector<OptionSpec>& common_options();

// Options and arguments that several commands share.
OptionSpec json_option();
ArgumentSpec sandbox_argument();
/// The options of `start` and `plan`, made from the configuration's table of keys.
std::vector<OptionSpec> config_options();

}  // namespace agentvm::cli
