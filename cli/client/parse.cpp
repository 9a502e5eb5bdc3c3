#include "cli/client/parse.hpp"

#include <algorithm>
#include <numeric>

#include <fmt/ranges.h>

#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

/// Insertions, deletions, replacements and swaps of neighbours: "strat" is one step from "start".
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before, above(b.size() + 1), row(b.size() + 1);
  std::iota(above.begin(), above.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = std::exchange(above, row);
  }
  return above[b.size()];
}

[[noreturn]] void usage(const std::string& message, const std::string& hint) {
  throw Error(ErrorCode::usage, message, hint);
}

std::string in_quotes(std::string_view word) {
  return "'" + clean_guest_text(word, Newlines::escape, 80) + "'";
}

std::string help_hint(const CommandSpec* command) {
  return command ? "agentvm help " + command->name : "agentvm help";
}

std::vector<std::string> command_words() {
  std::vector<std::string> words;
  for (const auto& command : command_table()) {
    if (command.hidden) continue;
    words.push_back(command.name.substr(0, command.name.find(' ')));
    for (const auto& alias : command.aliases) words.push_back(alias);
  }
  return words;
}

std::vector<std::string> subcommands_of(const std::string& family) {
  std::vector<std::string> result;
  for (const auto& command : command_table())
    if (command.name.starts_with(family + " ")) result.push_back(command.name.substr(family.size() + 1));
  return result;
}

/// Takes the command's words from the front.
const CommandSpec* take_command(const std::vector<std::string>& words, std::size_t& position) {
  const auto& first = words[position];
  if (const auto* command = find_command(first)) {
    ++position;
    return command;
  }
  const auto members = subcommands_of(first);
  if (members.empty()) {
    const auto meant = nearest(first, command_words());
    usage(fmt::format("there is no command {}{}", in_quotes(first),
                      meant.empty() ? "" : fmt::format("; did you mean '{}'?", meant)),
          meant.empty() ? "agentvm help" : "agentvm help " + meant);
  }
  ++position;
  if (position >= words.size() || words[position].starts_with("-")) {
    if (position < words.size() && (words[position] == "--help" || words[position] == "-h")) return nullptr;
    usage(fmt::format("'agentvm {}' needs one of: {}", first, fmt::join(members, ", ")), "agentvm help " + first);
  }
  if (const auto* command = find_command(first + " " + words[position])) {
    ++position;
    return command;
  }
  const auto meant = nearest(words[position], members);
  usage(fmt::format("'agentvm {}' has no command {}{}", first, in_quotes(words[position]),
                    meant.empty() ? fmt::format("; it has: {}", fmt::join(members, ", "))
                                  : fmt::format("; did you mean '{}'?", meant)),
        "agentvm help " + first);
}

class OptionParser {
 public:
  OptionParser(Arguments& into, const std::vector<std::string>& words, std::size_t& position)
      : into_(into), words_(words), position_(position) {}

  void take() {
    const auto& word = words_[position_++];
    if (word.starts_with("--")) return take_long(word);
    for (std::size_t i = 1; i < word.size(); ++i) {
      const auto* option = by_letter(word[i]);
      if (!option)
        usage(fmt::format("{} does not know the option '-{}'", command_name(), clean_guest_text(word.substr(i, 1))),
              hint());
      if (option->value.empty()) {
        store(*option, "true", fmt::format("-{}", word[i]));
        continue;
      }
      const auto rest = word.substr(i + 1);
      return store(*option, rest.empty() ? next_word(fmt::format("-{}", word[i]), *option) : rest,
                   fmt::format("-{}", word[i]));
    }
  }

 private:
  void take_long(const std::string& word) {
    const auto equals = word.find('=');
    auto name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    const auto* option = by_name(name);
    bool negated = false;
    if (!option && name.starts_with("no-")) {
      option = by_name(name.substr(3));
      negated = option && option->negatable;
      if (!negated) option = nullptr;
    }
    const auto shown = "--" + name;
    if (!option) {
      const auto meant = nearest(name, names());
      usage(fmt::format("{} does not know the option {}{}", command_name(), in_quotes(shown),
                        meant.empty() ? "" : fmt::format("; did you mean '--{}'?", meant)),
            hint());
    }
    if (option->greedy) {
      auto& taken = into_.options[option->name];
      if (equals != std::string::npos) taken.push_back(word.substr(equals + 1));
      while (position_ < words_.size() && !words_[position_].starts_with("-")) taken.push_back(words_[position_++]);
      return;
    }
    if (option->value.empty()) {
      if (equals != std::string::npos)
        usage(fmt::format("{} takes no value (got {})", shown, in_quotes(word.substr(equals + 1))), hint());
      return store(*option, negated ? "false" : "true", shown);
    }
    store(*option, equals == std::string::npos ? next_word(shown, *option) : word.substr(equals + 1), shown);
  }

  std::string next_word(const std::string& shown, const OptionSpec& option) {
    // "-" alone and negative numbers may be values; another option may not: it would be swallowed silently.
    if (position_ >= words_.size() || (words_[position_].size() > 1 && words_[position_].starts_with("-")))
      usage(fmt::format("{} needs a value: {} {}", shown, shown, option.value), hint());
    return words_[position_++];
  }

  void store(const OptionSpec& option, std::string value, const std::string& shown) {
    if (!option.choices.empty() &&
        std::find(option.choices.begin(), option.choices.end(), value) == option.choices.end()) {
      const auto meant = nearest(value, option.choices);
      usage(fmt::format("{}: {} is not one of {}{}", shown, in_quotes(value), fmt::join(option.choices, ", "),
                        meant.empty() ? "" : fmt::format("; did you mean '{}'?", meant)),
            hint());
    }
    if (!option.value.empty() && value.empty())
      usage(fmt::format("{} needs a value: {} {}", shown, shown, option.value), hint());
    auto& values = into_.options[option.name];
    if (!option.repeatable && !values.empty() && values.back() != value)
      usage(fmt::format("{} was given twice", shown), hint());
    if (!option.repeatable) values.clear();
    values.push_back(std::move(value));
  }

  template <class Match>
  const OptionSpec* first(Match match) const {
    for (const auto* list : {&into_.command->options, &common_options()})
      for (const auto& option : *list)
        if (match(option)) return &option;
    return nullptr;
  }
  const OptionSpec* by_name(std::string_view name) const {
    return first([&](const OptionSpec& option) { return option.name == name; });
  }
  const OptionSpec* by_letter(char letter) const {
    return first([&](const OptionSpec& option) { return option.letter == letter; });
  }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    first([&](const OptionSpec& option) {
      if (!option.hidden) result.push_back(option.name);
      if (option.negatable) result.push_back("no-" + option.name);
      return false;
    });
    return result;
  }
  std::string command_name() const { return "'agentvm " + into_.command->name + "'"; }
  std::string hint() const { return help_hint(into_.command); }

  Arguments& into_;
  const std::vector<std::string>& words_;
  std::size_t& position_;
};

void check_positionals(const Arguments& arguments) {
  const auto& command = *arguments.command;
  const auto shown = "'agentvm " + command.name + "'";
  const bool open_ended = !command.arguments.empty() && command.arguments.back().repeatable;
  if (!open_ended && arguments.positionals.size() > command.arguments.size()) {
    const auto& extra = arguments.positionals[command.arguments.size()];
    const auto why =
        command.trailing.name.empty() ? "" : fmt::format("; the words of {} stand after --", command.trailing.name);
    usage(fmt::format("{} takes {} argument{} here: {} is too much{}", shown,
                      command.arguments.empty() ? "no" : std::to_string(command.arguments.size()),
                      command.arguments.size() == 1 ? "" : "s", in_quotes(extra), why),
          help_hint(&command));
  }
  for (std::size_t i = 0; i < command.arguments.size(); ++i) {
    const auto& spec = command.arguments[i];
    const auto value = arguments.positional(i);
    if (!value) {
      if (spec.required) usage(fmt::format("{} needs {}", shown, spec.name), help_hint(&command));
      continue;
    }
    if (value->empty()) usage(fmt::format("{}: {} is empty", shown, spec.name), help_hint(&command));
    if (!spec.choices.empty() && std::find(spec.choices.begin(), spec.choices.end(), *value) == spec.choices.end())
      usage(fmt::format("{}: {} is not one of {}", spec.name, in_quotes(*value), fmt::join(spec.choices, ", ")),
            help_hint(&command));
  }
  if (command.trailing.name.empty() && arguments.has_trailing && !arguments.trailing.empty())
    usage(fmt::format("{} takes nothing after --", shown), help_hint(&command));
  if (command.trailing.required && arguments.trailing.empty()) {
    // "exec ls" reads like the sandbox "ls" without a command, and is more likely a forgotten "--".
    const auto words = arguments.positionals.empty() ? command.trailing.name : arguments.positionals[0];
    usage(fmt::format("{} needs a command after --: agentvm {} -- {}", shown, command.name, clean_guest_text(words)),
          help_hint(&command));
  }
}

Arguments help_about(const std::string& topic) {
  Arguments arguments;
  arguments.command = find_command("help");
  if (!topic.empty()) arguments.positionals = {topic};
  return arguments;
}

}  // namespace

std::string nearest(std::string_view wanted, const std::vector<std::string>& candidates) {
  constexpr std::size_t longest_worth_comparing = 64;
  if (wanted.empty() || wanted.size() > longest_worth_comparing) return {};
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, wanted.size() / 3) + 1;
  for (const auto& candidate : candidates) {
    auto distance = edit_distance(wanted, candidate);
    if (wanted.size() >= 3 && candidate.starts_with(wanted)) distance = std::min<std::size_t>(distance, 1);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string Arguments::text(const std::string& option, const std::string& fallback) const {
  const auto found = options.find(option);
  return found == options.end() ? fallback : found->second.back();
}

bool Arguments::enabled(const std::string& option, bool fallback) const {
  return text(option, fallback ? "true" : "false") == "true";
}

const std::vector<std::string>& Arguments::all(const std::string& option) const {
  static const std::vector<std::string> none;
  const auto found = options.find(option);
  return found == options.end() ? none : found->second;
}

std::optional<std::string> Arguments::positional(std::size_t index) const {
  if (index >= positionals.size()) return std::nullopt;
  return positionals[index];
}

Arguments parse_arguments(const std::vector<std::string>& words) {
  if (words.empty()) return help_about("");
  if (words[0] == "--version" || words[0] == "-V") {
    Arguments arguments;
    arguments.command = find_command("version");
    return arguments;
  }
  if (words[0] == "--help" || words[0] == "-h")
    return help_about(words.size() > 1 && !words[1].starts_with("-") ? words[1] : "");
  if (words[0].starts_with("-"))
    usage(fmt::format("the option {} stands before a command; options follow it", in_quotes(words[0])), "agentvm help");
  Arguments arguments;
  std::size_t position = 0;
  arguments.command = take_command(words, position);
  if (!arguments.command) return help_about(words[0]);
  OptionParser options(arguments, words, position);
  while (position < words.size()) {
    const auto& word = words[position];
    if (word == "--") {
      arguments.has_trailing = true;
      arguments.trailing.assign(words.begin() + static_cast<std::ptrdiff_t>(position) + 1, words.end());
      break;
    }
    if (word.size() > 1 && word.starts_with("-")) {
      options.take();
      continue;
    }
    arguments.positionals.push_back(word);
    ++position;
  }
  if (arguments.given("help")) return help_about(arguments.command->name);
  check_positionals(arguments);
  return arguments;
}

}  // namespace agentvm::cli
