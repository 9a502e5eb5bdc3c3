#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

int list(Invocation& run) {
  auto params = request_params();
  params["newest"] = run.args.enabled("newest");
  const auto result = run.call("agents.list", params);
  run.show(result, render_agents(result, run.out.out_style(), run.out.width()));
  return 0;
}

/// The status: not 0 where something failed.
int show_update(Invocation& run, const Json& result) {
  run.show(result, render_agent_update(result, run.out.out_style(), run.out.width()));
  int status = 0;
  for (const auto& agent : list_at(result, "agents"))
    if (text_at(agent, "result") == "failed") {
      run.out.warn(clean(text_at(agent, "name")) + ": " + clean(text_at(agent, "problem")));
      status = exit_code(ErrorCode::operation_failed);
    }
  return status;
}

int update(Invocation& run) {
  auto params = request_params();
  params["names"] = run.args.positionals;
  params["dry_run"] = run.args.enabled("dry-run");
  return show_update(run, run.call("agents.update", params));
}

int pin(Invocation& run) {
  auto params = request_params();
  const auto version = run.args.positional(1);
  if (version.has_value() == run.args.enabled("remove"))
    throw Error(ErrorCode::usage, "either VERSION or --remove", "agentvm help agents pin");
  params["name"] = *run.args.positional(0);
  params["version"] = version.value_or("");
  return show_update(run, run.call("agents.pin", params));
}

ArgumentSpec agent_argument() {
  return {.name = "NAME", .help = "An agent program: 'agentvm agents list'", .required = true};
}

}  // namespace

CommandSpec agents_update_command() {
  auto names = agent_argument();
  names.required = false;
  names.repeatable = true;
  return {.name = "agents update",
          .group = "Images",
          .summary = "Go on to the newest versions of agent programs",
          .description =
              "Asks the npm registry that this host is set to, writes version and digest into agents.lock.json beside "
              "the configuration file, and installs the program into a new layer; without a NAME that is done at once "
              "where an older one is installed, else when it is first used. Sandboxes that run keep theirs until they "
              "are started again. Nothing goes back to an older version, and what is pinned stays.",
          .arguments = {names},
          .options = {{.name = "dry-run", .letter = 'n', .help = "Only show what there is"}, json_option()},
          .examples = {{"agentvm agents update claude", "the newest Claude Code, from the next start on"}},
          .run = update};
}

CommandSpec agents_pin_command() {
  auto agent = agent_argument();
  return {.name = "agents pin",
          .group = "Images",
          .summary = "Stay at one version of an agent program",
          .description =
              "An older one, too. It is installed at once, and counts until another is pinned or --remove; "
              "'agents update' passes over it.",
          .arguments = {agent, {.name = "VERSION", .help = "As the registry has it"}},
          .options = {{.name = "remove", .help = "Take back what was pinned or updated: the definition's own counts"},
                      json_option()},
          .examples = {{"agentvm agents pin codex 0.169.0", "until it is taken back"}},
          .run = pin};
}

int build_agents(Invocation& run) {
  if (run.args.given("recipe") || run.args.given("layers"))
    throw Error(ErrorCode::usage,
                "--agents builds no image: agents are layers of their own, which --recipe and --layers do not change",
                "agentvm help image build");
  auto params = request_params();
  params["names"] = listed_names(run.args.text("agents"));
  if (params["names"].empty()) throw Error(ErrorCode::usage, "--agents: no name", "agentvm agents list");
  const auto result = run.call("agents.build", params);
  run.show(result, render_agents(result, run.out.out_style(), run.out.width()));
  return 0;
}

CommandSpec agents_command() {
  return {
      .name = "agents list",
      .group = "Images",
      .summary = "List the agent programs that a sandbox can start with",
      .description =
          "The built-in ones, and those of *.yaml files in the folder agents beside the configuration file. Each is "
          "installed once, when it is first asked for, into a layer that sandboxes see read-only; 'agentvm image "
          "build --agents' does so beforehand. NEWEST is what the registry said when it was last asked.",
      .options = {{.name = "newest", .help = "Ask the registry now"}, json_option()},
      .examples = {{"agentvm start --agent claude", "start with one of them"}},
      .run = list};
}

}  // namespace agentvm::cli
