#include <cstdlib>
#include <sstream>

#include <fmt/format.h>
#include <pwd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::cli {
namespace {

std::string system_facts() {
  utsname kernel{};
  ::uname(&kernel);
  std::string name = "unknown distribution";
  std::istringstream release(read_file_if_exists("/etc/os-release", 64u << 10).value_or(""));
  constexpr std::string_view key = "PRETTY_NAME=";
  for (std::string line; std::getline(release, line);)
    if (line.starts_with(key)) name = line.substr(key.size());
  std::erase(name, '"');
  return fmt::format("{}, {} {} {}", clean(name), kernel.sysname, kernel.release, kernel.machine);
}

/// A settings file that cannot be read is part of what is wrong.
Json ask(Invocation& run, const char* method, const Json& params) {
  try {
    return run.call(method, params);
  } catch (const Error& error) {
    return {{"problem", error.what()}};
  }
}

std::string bug_report(Invocation& run, const Json& checks) {
  constexpr std::size_t log_bytes = 1u << 20;
  BugReport report{.doctor = checks,
                   .status = ask(run, "status", Json{{"all", true}}),
                   .config = ask(run, "config.show", request_params()),
                   .version = AGENTVM_VERSION,
                   .system = system_facts(),
                   .log = cleaned_lines(read_tail(run.paths.manager_log(), log_bytes))};
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const auto* account = ::getpwuid(::geteuid());
  report.host = host;
  if (::geteuid() != 0) report.user = account ? account->pw_name : variable("USER");
  report.folders = {{run.paths.state.string(), "<state>"},
                    {run.paths.data.string(), "<data>"},
                    {run.paths.config_file.parent_path().string(), "<config>"},
                    {run.paths.runtime.string(), "<run>"},
                    {variable("HOME"), "~"}};
  return render_bug_report(report);
}

int doctor(Invocation& run) {
  if (run.args.enabled("report") && run.out.json())
    throw Error(ErrorCode::usage, "--report is text for people; --json is the same checks", "agentvm help doctor");
  auto params = request_params();
  params["nested"] = run.args.enabled("nested");
  params["fix"] = run.args.enabled("fix");
  const auto result = run.call("doctor", params);
  if (run.args.enabled("report")) {
    run.out.print(bug_report(run, result));
    return 0;
  }
  run.show(result, render_doctor(result, run.out.out_style()));
  return true_at(result, "ok") ? 0 : exit_code(ErrorCode::host_lacks);
}

}  // namespace

CommandSpec doctor_command() {
  return {
      .name = "doctor",
      .group = "Host and settings",
      .summary = "Check this host; each finding names the command that mends it",
      .description = "Status 4 when something found would stop a start.",
      .options =
          {{.name = "nested", .help = "Start a guest and run a virtual machine in it, which takes a while"},
           {.name = "fix", .help = "End and remove what is left of sandboxes that are gone"},
           {.name = "report",
            .help = "A text for a bug report, without names of projects, hosts and people; read it before you send it"},
           json_option()},
      .examples = {{"agentvm doctor --nested", "whether hypervisors can be built and run in a sandbox"}},
      .run = doctor};
}

}  // namespace agentvm::cli
