#include <sys/stat.h>

#include "cli/client/follow_lines.hpp"
#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/table.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

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

int logs(Invocation& run) {
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
          .summary = "Show what the guest printed on its console, or the manager's log",
          .arguments = {sandbox_argument()},
          .options = {{.name = "follow", .letter = 'f', .help = "Go on as it grows, until Ctrl-C"},
                      {.name = "boot", .help = "The guest's console (the default)"},
                      {.name = "manager", .help = "The manager's own log"},
                      json_option()},
          .run = logs};
}

}  // namespace agentvm::cli
