// Completion: the scripts are thin, the words come from the same table as everything else by `agentvm __complete --
// WORDS`.

#include <algorithm>
#include <set>

#include "cli/render/help.hpp"

namespace agentvm::cli {
namespace {

using Words = std::vector<std::pair<std::string, std::string>>;

void add_kind(Words& into, Complete kind) {
  switch (kind) {
    case Complete::nothing:
      break;
    case Complete::sandbox:
      into.emplace_back("@sandbox", "");
      break;
    case Complete::file:
      into.emplace_back("@file", "");
      break;
    case Complete::directory:
      into.emplace_back("@directory", "");
      break;
    case Complete::image:
      into.emplace_back("@image", "");
      break;
    case Complete::command:
      for (const auto& command : command_table())
        if (!command.hidden) into.emplace_back(command.name.substr(0, command.name.find(' ')), "");
      break;
  }
}

Words first_words() {
  Words result;
  std::set<std::string> families;
  for (const auto& command : command_table()) {
    if (command.hidden) continue;
    const auto space = command.name.find(' ');
    if (space == std::string::npos)
      result.emplace_back(command.name, command.summary);
    else if (families.insert(command.name.substr(0, space)).second)
      result.emplace_back(command.name.substr(0, space), "");
  }
  result.emplace_back("--help", "Show the commands");
  result.emplace_back("--version", "Print the version");
  return result;
}

Words second_words(const std::string& family) {
  Words result;
  for (const auto& command : command_table())
    if (!command.hidden && command.name.starts_with(family + " "))
      result.emplace_back(command.name.substr(family.size() + 1), command.summary);
  return result;
}

const OptionSpec* option_of(const CommandSpec& command, const std::string& word) {
  for (const auto& option : command.options)
    if (word == "--" + option.name || (option.letter && word == std::string("-") + option.letter)) return &option;
  return nullptr;
}

Words values_of(const OptionSpec& option, const std::string& prefix) {
  Words result;
  for (const auto& choice : option.choices) result.emplace_back(prefix + choice, "");
  if (prefix.empty()) add_kind(result, option.complete);
  return result;
}

Words option_words(const CommandSpec& command) {
  Words result;
  for (const auto* list : {&command.options, &common_options()})
    for (const auto& option : *list) {
      if (option.hidden) continue;
      result.emplace_back("--" + option.name, option.help);
      if (option.negatable) result.emplace_back("--no-" + option.name, "Not: " + option.help);
    }
  return result;
}

Words starting_with(Words words, const std::string& prefix) {
  std::erase_if(words,
                [&](const auto& word) { return !word.first.starts_with("@") && !word.first.starts_with(prefix); });
  return words;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> complete_words(const std::vector<std::string>& words) {
  if (words.empty()) return first_words();
  const auto& last = words.back();
  if (words.size() == 1) return starting_with(first_words(), last);
  std::size_t used = 1;
  const auto* command = find_command(words[0]);
  if (!command) {
    if (words.size() == 2) return starting_with(second_words(words[0]), last);
    command = find_command(words[0] + " " + words[1]);
    used = 2;
  }
  if (!command) return {};
  std::size_t positionals = 0;
  for (std::size_t i = used; i + 1 < words.size(); ++i) {
    if (words[i] == "--") return {{"@file", ""}};  // the guest's words; a path of the project is the best guess
    const auto* option = option_of(*command, words[i]);
    if (option && !option->value.empty()) {
      if (i + 2 == words.size()) return starting_with(values_of(*option, ""), last);
      ++i;
    } else if (!words[i].starts_with("-")) {
      ++positionals;
    }
  }
  if (const auto equals = last.find('='); last.starts_with("--") && equals != std::string::npos) {
    const auto* option = option_of(*command, last.substr(0, equals));
    return option ? starting_with(values_of(*option, last.substr(0, equals + 1)), last) : Words{};
  }
  if (last.starts_with("-")) return starting_with(option_words(*command), last);
  if (command->arguments.empty()) return {};
  const auto index = std::min(positionals, command->arguments.size() - 1);
  if (positionals > index && !command->arguments[index].repeatable) return {};
  Words result;
  for (const auto& choice : command->arguments[index].choices) result.emplace_back(choice, "");
  add_kind(result, command->arguments[index].complete);
  if (command->arguments[index].complete == Complete::command && positionals == 1) result = second_words(words[used]);
  return starting_with(std::move(result), last);
}

std::string bash_completion() {
  return R"sh(# bash completion for agentvm; made by: agentvm completion bash
_agentvm() {
  local cur i line value out
  local -a words=()
  COMPREPLY=()
  # bash splits words at = and : ; put them together again.
  for ((i = 1; i <= COMP_CWORD; i++)); do
    value=${COMP_WORDS[i]}
    if ((${#words[@]} > 0)) && [[ $value == [=:] || ${COMP_WORDS[i-1]} == [=:] ]]; then
      words[${#words[@]}-1]+=$value
    else
      words+=("$value")
    fi
  done
  cur=${COMP_WORDS[COMP_CWORD]}
  [[ $cur == [=:] ]] && cur=
  out=$("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null) || return 0
  while IFS= read -r line; do
    value=${line%%$'\t'*}
    case $value in
      '') ;;
      :file) compopt -o filenames 2>/dev/null; while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -f -- "$cur") ;;
      :directory) compopt -o filenames 2>/dev/null; while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -d -- "$cur") ;;
      *=*) COMPREPLY+=("${value#*=}") ;;
      *) COMPREPLY+=("$value") ;;
    esac
  done <<<"$out"
}
complete -F _agentvm agentvm
)sh";
}

// clang-format off: it takes this one for C++ and breaks it
std::string zsh_completion() {
  return R"sh(#compdef agentvm
# zsh completion for agentvm; made by: agentvm completion zsh
_agentvm() {
  local line value text
  local -a described
  for line in ${(f)"$(${words[1]} __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"}; do
    value=${line%%$'\t'*}
    text=${line#*$'\t'}
    case $value in
      :file) _files ;;
      :directory) _files -/ ;;
      *) described+=("${value//:/\\:}:$text") ;;
    esac
  done
  ((${#described})) && _describe -V agentvm described
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _agentvm "$@"
else
  compdef _agentvm agentvm
fi
)sh";
}
// clang-format on

std::string fish_completion() {
  return R"sh(# fish completion for agentvm; made by: agentvm completion fish
function __agentvm_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] __complete -- $words[2..-1] "$current" 2>/dev/null)
        switch $line
            case ':file*'
                __fish_complete_path "$current"
            case ':directory*'
                __fish_complete_directories "$current"
            case '*'
                echo $line
        end
    end
end
complete -c agentvm -f -a '(__agentvm_complete)'
)sh";
}

}  // namespace agentvm::cli
