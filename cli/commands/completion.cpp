#include <dirent.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/help.hpp"
#include "cli/render/table.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/names.hpp"

namespace agentvm::cli {
namespace {

int completion(Invocation& run) {
  const auto shell = *run.args.positional(0);
  run.out.print(shell == "bash" ? bash_completion() : shell == "zsh" ? zsh_completion() : fish_completion());
  return 0;
}

std::vector<std::string> entries_of(const fs::path& folder) {
  constexpr std::size_t limit = 1000;
  std::vector<std::string> result;
  std::error_code problem;
  for (fs::directory_iterator entry(folder, problem), end; !problem && entry != end && result.size() < limit;
       entry.increment(problem))
    result.push_back(entry->path().filename().string());
  std::sort(result.begin(), result.end());
  return result;
}

/// Read from the folders themselves: a key press must not start a manager.
std::vector<std::string> sandbox_names(const Paths& paths) {
  std::vector<std::string> result;
  for (const auto& name : entries_of(paths.sandboxes())) {
    try {
      result.push_back(SandboxName::parse(name).str());
    } catch (const Error&) {
      // Something else lies there.
    }
  }
  return result;
}

std::vector<std::string> image_names(const Paths& paths) {
  std::vector<std::string> result;
  for (const auto& digest : entries_of(paths.images())) {
    try {
      const auto image = parse_json(read_file(paths.images() / digest / "image.json", 1u << 20), digest);
      if (const auto name = text_at(image, "name", "");
          !name.empty() && std::find(result.begin(), result.end(), name) == result.end())
        result.push_back(name);
    } catch (const Error&) {
      // Being built or removed right now.
    }
  }
  return result;
}

int complete(Invocation& run) {
  std::string text;
  const std::string prefix = run.args.trailing.empty() ? "" : run.args.trailing.back();
  const auto add = [&](const std::string& word, const std::string& description) {
    text += word + "\t" + description + "\n";
  };
  for (const auto& [word, description] : complete_words(run.args.trailing)) {
    if (word == "@file" || word == "@directory") {
      add(":" + word.substr(1), "");
    } else if (word == "@sandbox" || word == "@image") {
      for (const auto& name : word == "@sandbox" ? sandbox_names(run.paths) : image_names(run.paths))
        if (name.starts_with(prefix)) add(name, word.substr(1));
    } else {
      add(word, description);
    }
  }
  run.out.print(text);
  return 0;
}

}  // namespace

CommandSpec completion_command() {
  return {.name = "completion",
          .group = "Host and settings",
          .summary = "Print a completion script for your shell",
          .arguments =
              {{.name = "SHELL", .help = "bash, zsh or fish", .required = true, .choices = {"bash", "zsh", "fish"}}},
          .examples = {{"source <(agentvm completion bash)", "for this shell"}},
          .run = completion};
}

CommandSpec complete_command() {
  return {.name = "__complete",
          .group = "Hidden",
          .summary = "What completion scripts ask",
          .trailing = {"WORDS", false},
          .hidden = true,
          .run = complete};
}

}  // namespace agentvm::cli
