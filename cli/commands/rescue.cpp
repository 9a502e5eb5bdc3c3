// Files on the disk of a sandbox that does not run.

#include <filesystem>

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/client/pump.hpp"
#include "cli/client/session.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

/// [NAME] ls|cat|cp PATHS
struct Words {
  std::optional<std::string> name;
  std::string verb;
  std::vector<std::string> paths;
};

bool is_verb(const std::string& word) {
  return word == "ls" || word == "cat" || word == "cp";
}

Words read_words(const Arguments& arguments) {
  const auto& words = arguments.positionals;
  Words result;
  std::size_t next = 0;
  // A sandbox may be called "ls", too: then its name comes before another verb.
  const bool named = words.size() > 1 && is_verb(words[1]);
  if (named || (!words.empty() && !is_verb(words[0]))) result.name = words[next++];
  if (next == words.size() || !is_verb(words[next]))
    throw Error(ErrorCode::usage,
                next == words.size() ? "rescue needs one of ls, cat and cp"
                                     : fmt::format("rescue: '{}' is none of ls, cat and cp", clean(words[next])),
                "agentvm help rescue");
  result.verb = words[next++];
  result.paths.assign(words.begin() + static_cast<std::ptrdiff_t>(next), words.end());
  const std::size_t least = result.verb == "ls" ? 0 : 1, most = result.verb == "cp" ? 2 : 1;
  if (result.paths.size() < least || result.paths.size() > most)
    throw Error(
        ErrorCode::usage,
        fmt::format("rescue {} takes {}", result.verb, result.verb == "cp" ? "a path and where it goes" : "one path"),
        "agentvm help rescue");
  return result;
}

int list(Invocation& run, const Json& params) {
  const auto result = run.call("rescue.ls", params);
  run.show(result, render_disk_files(result, run.out.out_style()));
  return 0;
}

int print(Invocation& run, const Json& params) {
  if (run.out.json())
    throw Error(ErrorCode::usage, "rescue cat prints the file's bytes: it has no --json", "agentvm help rescue");
  const bool terminal = run.out.out_is_terminal();
  const auto mode = terminal ? SessionOptions::Mode::captured : SessionOptions::Mode::plain;
  auto connection = connect_manager(run.paths, Spawn::allowed);
  SessionEnd end;
  try {
    end = run_session(connection, "rescue.cat", params, {.mode = mode, .input = false}, run.out);
  } catch (const ManagerLost&) {
    end.lost = true;
  }
  if (end.lost) throw Error(ErrorCode::operation_failed, "the manager was lost", "agentvm manager logs");
  if (terminal) run.out.print(clean_guest_text(end.out, Newlines::keep, Pump::capture_limit_bytes));
  if (end.cut) run.out.warn("the rest is not shown: write it to a file");
  return 0;
}

int copy(Invocation& run, Json params, const std::vector<std::string>& paths) {
  namespace fs = std::filesystem;
  params["to"] = fs::absolute(paths.size() > 1 ? paths[1] : ".").lexically_normal().string();
  const auto result = run.call("rescue.cp", params);
  run.show(result, "");
  if (!run.out.json())
    run.out.say(fmt::format("{} copied to {}", counted(number_at(result, "files"), "file"), text_at(result, "to")));
  return 0;
}

int rescue(Invocation& run) {
  const auto words = read_words(run.args);
  auto params = request_params();
  if (words.name) params["name"] = *words.name;
  params["path"] = words.paths.empty() ? "/" : words.paths[0];
  if (words.verb == "ls") return list(run, params);
  if (words.verb == "cat") return print(run, params);
  return copy(run, std::move(params), words.paths);
}

}  // namespace

CommandSpec rescue_command() {
  return {
      .name = "rescue",
      .group = "Everyday",
      .summary = "Read files from the disk of a sandbox that does not run",
      .description =
          "rescue [NAME] ls [PATH], rescue [NAME] cat PATH, rescue [NAME] cp PATH [TO]: for a guest that does not "
          "boot any more, and for disks that 'destroy --keep-disk' kept. The disk is only read, through libguestfs in "
          "a confined process; the first time takes half a minute. Copies are your own files, without special bits "
          "and devices; a repository in them is made inert, because its configuration could run programs here: "
          "commits come home with 'agentvm start' and 'agentvm sync'.",
      .arguments = {{.name = "WORDS",
                     .help = "[NAME] ls|cat|cp, and paths on the disk; the target of cp is here",
                     .required = true,
                     .repeatable = true,
                     .complete = Complete::sandbox}},
      .options = {json_option()},
      .examples = {{"agentvm rescue web ls /var/log", "what is there"},
                   {"agentvm rescue web cp /home/agent/notes ./notes", "a folder or a file of it"}},
      .run = rescue};
}

}  // namespace agentvm::cli
