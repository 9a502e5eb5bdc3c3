#include <fmt/format.h>
#include <unistd.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::cli {
namespace {

constexpr milliseconds stop_limit{30'000};

int run_here(Invocation& run) {
  const auto program = (run.paths.libexec / "agentvm-manager").string();
  std::vector<std::string> words = {program};
  if (run.args.enabled("foreground")) words.push_back("--foreground");
  if (run.args.given("idle-seconds")) words.insert(words.end(), {"--idle-seconds", run.args.text("idle-seconds")});
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  throw_errno("running " + program);
}

int status(Invocation& run) {
  auto connection = connect_manager(run.paths, Spawn::never);
  const auto result = call_manager(connection, "manager.status", Json::object(), run.out);
  run.show(result, render_manager_status(result, run.out.out_style()));
  return 0;
}

int stop(Invocation& run) {
  Json result;
  try {
    auto connection = connect_manager(run.paths, Spawn::never);
    try {
      result = call_manager(connection, "manager.stop", Json::object(), run.out);
    } catch (const ManagerLost&) {
      // It ended as we asked: that is what was wanted.
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    run.out.say("no manager is running");
    if (run.out.json()) run.out.print_json({{"schema", "agentvm.manager-stop/1"}, {"pid", nullptr}});
    return 0;
  }
  // Ended means that its lock is free: a script may remove or move the state folder next.
  FileLock::acquire(run.paths.manager_lock(), Deadline::after(stop_limit));
  if (run.out.json()) run.out.print_json(result);
  run.out.say("the manager has ended; sandboxes go on");
  return 0;
}

int logs(Invocation& run) {
  return show_manager_log(run);
}

}  // namespace

std::vector<CommandSpec> manager_commands() {
  const std::string group = "Host and settings";
  return {{.name = "manager run",
           .group = group,
           .summary = "Run the manager here; commands start one by themselves",
           .options = {{.name = "foreground", .help = "Log to standard error"},
                       {.name = "idle-seconds",
                        .value = "N",
                        .help = "End after so long without clients and running sandboxes; default 60"}},
           .run = run_here},
          {.name = "manager status",
           .group = group,
           .summary = "Show the running manager; 1 when there is none",
           .options = {json_option()},
           .run = status},
          {.name = "manager stop",
           .group = group,
           .summary = "End the manager; sandboxes go on",
           .options = {json_option()},
           .run = stop},
          {.name = "manager logs",
           .group = group,
           .summary = "Show the manager's log",
           .options = {{.name = "follow", .letter = 'f', .help = "Go on as it grows, until Ctrl-C"}, json_option()},
           .run = logs}};
}

}  // namespace agentvm::cli
