#include "cli/client/invocation.hpp"
#include "cli/client/terminal.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

int start(Invocation& run) {
  auto params = request_params();
  if (const auto path = run.args.positional(0)) params["path"] = *path;
  params["flags"] = given_config_flags(run.args);
  if (run.args.enabled("cold")) params["flags"]["warm"] = "false";
  params["task"] = run.args.trailing;
  params["fresh"] = run.args.enabled("fresh");
  params["timing"] = run.args.enabled("timing");
  params["variables"] = agent_variables(run, params);
  const auto result = run.call("start", params);
  const bool already = true_at(result, "already_running");
  const bool attaches = !run.args.enabled("no-attach") && !run.out.json() && on_terminal();
  if (run.out.json())
    run.out.print_json(result);
  else if (!attaches)
    run.out.print(render_status(result, run.out.out_style(), false));
  if (run.args.enabled("timing") && !run.out.json())
    run.out.print(render_timing(list_at(result, "timing"), run.out.out_style()));
  if (already && !attaches) {
    run.out.say("the sandbox '" + text_at(result, "name") + "' is running already");
    return exit_code(ErrorCode::wrong_state);
  }
  if (!attaches) return 0;
  auto attach = request_params();
  attach["name"] = require<std::string>(result, "name");
  try {
    attach_terminal(run, std::move(attach));
  } catch (const Error& error) {
    // The start itself worked, and that is what our status says.
    run.out.fail(error, 0);
  }
  return 0;
}

}  // namespace

CommandSpec start_command() {
  auto options = config_options();
  options.push_back({.name = "fresh", .help = "Drop the old guest state first; its work is rescued before"});
  options.push_back({.name = "cold", .help = "Boot the machine even where a template fits"});
  options.push_back({.name = "no-attach", .help = "Do not open a terminal in it afterwards"});
  options.push_back({.name = "timing", .help = "Print the phases beside this host's own median"});
  options.push_back(json_option());
  return {
      .name = "start",
      .group = "Everyday",
      .summary = "Create or resume the sandbox of a project",
      .description =
          "Starts the machine that belongs to the project of PATH (the git repository around it), with a "
          "clone of the repository at /workspace and the uncommitted work brought along as it is. On a "
          "terminal it attaches afterwards. A sandbox that runs already is attached to; off a terminal that "
          "is status 2. With --agent the terminal session runs that program, which asks no permissions in there; the "
          "words after -- are its first task.",
      .arguments = {{.name = "PATH",
                     .help = "A folder of the project; default: the working directory",
                     .complete = Complete::directory}},
      .options = std::move(options),
      .trailing = {"TASK", false},
      .examples = {{"agentvm start", "a sandbox for this project"},
                   {"agentvm start --agent claude -- fix the failing test", "with an agent at work in it"},
                   {"agentvm start --memory 4G --no-attach ~/src/app", "a smaller one, without a terminal"}},
      .run = start};
}

}  // namespace agentvm::cli
