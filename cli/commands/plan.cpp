#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

int plan(Invocation& run) {
  auto params = request_params();
  const bool named = run.args.positional(0) == "start";  // a folder of that name is ./start
  if (!named && run.args.positional(1))
    throw Error(ErrorCode::usage,
                fmt::format("plan takes one folder, and '{}' is no command", clean(*run.args.positional(0))),
                "agentvm plan start PATH");
  if (const auto path = run.args.positional(named ? 1 : 0)) params["path"] = *path;
  params["flags"] = given_config_flags(run.args);
  params["fresh"] = run.args.enabled("fresh");
  const auto result = run.call("plan", params);
  run.show(result, render_plan(result, run.out.out_style(), run.out.width()));
  if (!run.out.json())
    for (const auto* from : {&result, &object_at(result, "egress")})
      for (const auto& warning : list_at(*from, "warnings"))
        if (warning.is_string()) run.out.warn(clean(warning.get<std::string>()));
  return 0;
}

}  // namespace

CommandSpec plan_command() {
  auto options = config_options();
  options.push_back({.name = "fresh", .help = "As for start"});
  options.push_back(json_option());
  return {
      .name = "plan",
      .group = "Host and settings",
      .summary = "Show what start would do and where each value comes from; runs nothing",
      .arguments = {{.name = "start",
                     .help =
                         "The command that is planned, which may be left out: a folder of the project stands here, too",
                     .complete = Complete::directory},
                    {.name = "PATH",
                     .help = "A folder of the project; default: the working directory",
                     .complete = Complete::directory}},
      .options = std::move(options),
      .run = plan};
}

}  // namespace agentvm::cli
