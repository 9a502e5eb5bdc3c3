#include <algorithm>

#include <fmt/format.h>
#include <sys/stat.h>

#include "cli/client/follow_lines.hpp"
#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/table.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

constexpr const char* kinds[] = {"boot", "manager", "agent"};
constexpr std::size_t shown_bytes = 2u << 20;  // the logs themselves are bounded below that

int show_file(Invocation& run, const std::string& path, const char* schema) {
  const bool follows = run.args.enabled("follow");
  if (run.out.json() && follows)
    throw Error(ErrorCode::usage, "--follow and --json exclude each other", "agentvm help logs");
  struct stat status {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  const auto text = cleaned_lines(read_tail(path, shown_bytes));
  if (run.out.json())
    run.out.print_json({{"schema", schema}, {"path", path}, {"text", text}});
  else
    run.out.print(text);
  if (!exists && !run.out.json()) run.out.say(path + " does not exist yet");
  if (follows)
    follow_lines(path, exists ? static_cast<std::uint64_t>(status.st_size) : 0,
                 [&](std::string_view lines) { run.out.print(cleaned_lines(lines)); });
  return 0;
}

/// The text comes from the guest's terminal, and is cleaned on the way.
int show_terminal(Invocation& run) {
  if (run.args.enabled("follow"))
    throw Error(ErrorCode::usage, "--agent shows the terminal as it is; to follow it, look on",
                "agentvm attach --read-only");
  auto params = run.params();
  if (run.args.given("worktree")) params["worktree"] = run.args.text("worktree");
  const auto answer = run.call("logs.agent", params);
  run.show(answer, cleaned_lines(require<std::string>(answer, "text")));
  if (!run.out.json() && !true_at(answer, "live"))
    run.out.say(
        fmt::format("'{}' does not run: this is what its terminal showed when it stopped", text_at(answer, "name")));
  return 0;
}

int logs(Invocation& run) {
  const auto chosen =
      std::count_if(std::begin(kinds), std::end(kinds), [&](auto* each) { return run.args.enabled(each); });
  if (chosen > 1)
    throw Error(ErrorCode::usage, "--boot, --manager and --agent exclude each other", "agentvm help logs");
  if (run.args.given("worktree") && !run.args.enabled("agent"))
    throw Error(ErrorCode::usage, "--worktree goes with --agent: the others know no work trees", "agentvm help logs");
  if (run.args.enabled("agent")) return show_terminal(run);
  if (run.args.enabled("manager")) {
    if (run.args.positional(0))
      throw Error(ErrorCode::usage, "--manager and NAME exclude each other", "agentvm help logs");
    return show_file(run, run.paths.manager_log().string(), "agentvm.logs/1");
  }
  auto params = run.params();
  params["which"] = "boot";
  const auto answer = run.call("logs", params);
  return show_file(run, require<std::string>(answer, "path"), "agentvm.logs/1");
}

}  // namespace

int show_manager_log(Invocation& run) {
  return show_file(run, run.paths.manager_log().string(), "agentvm.manager-logs/1");
}

CommandSpec logs_command() {
  return {.name = "logs",
          .group = "Everyday",
          .summary = "Show what the guest printed on its console, what its agent shows, or the manager's log",
          .arguments = {sandbox_argument()},
          .options = {{.name = "follow", .letter = 'f', .help = "Go on as it grows, until Ctrl-C"},
                      {.name = "boot", .help = "The guest's console (the default)"},
                      {.name = "agent", .help = "What the agent's terminal shows, or showed when the sandbox stopped"},
                      {.name = "worktree", .value = "BRANCH", .help = "With --agent: the terminal of this work tree"},
                      {.name = "manager", .help = "The manager's own log"},
                      json_option()},
          .run = logs};
}

}  // namespace agentvm::cli
