#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/commands/repository.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

/// {argv, task, keep, repository}: what `run` would be given.
Json planned_run(Invocation& run) {
  if (run.args.given("fresh")) throw Error(ErrorCode::usage, "--fresh is for a start", "agentvm help plan");
  const auto task = joined_words({run.args.positionals.begin() + 1, run.args.positionals.end()});
  if (!task.empty() && !run.args.trailing.empty())
    throw Error(ErrorCode::usage, "run needs either a command after -- or a task for an agent", "agentvm help run");
  Json planned{
      {"argv", run.args.trailing}, {"task", task}, {"keep", run.args.enabled("keep")}, {"repository", nullptr}};
  if (!run.args.given("repo")) return planned;
  const auto address = repository_address(run.args.text("repo"));
  const auto head = run.args.given("branch") ? "" : remote_head(address);
  planned["repository"] = {
      {"url", address.shown}, {"name", address.name}, {"head", head.empty() ? Json(nullptr) : Json(head)}};
  return planned;
}

void refuse_options_of_run(Invocation& run) {
  for (const auto* option : {"repo", "keep"})
    if (run.args.given(option))
      throw Error(ErrorCode::usage, fmt::format("--{} is for a run", option), "agentvm plan run ...");
  if (run.args.has_trailing)
    throw Error(ErrorCode::usage, "only a run is planned with a command", "agentvm plan run -- CMD");
}

int plan(Invocation& run) {
  auto params = request_params();
  const auto word = run.args.positional(0);  // a folder of that name is ./start
  if (word == "run") {
    params["run"] = planned_run(run);
  } else {
    refuse_options_of_run(run);
    const bool named = word == "start";
    if (!named && run.args.positional(1))
      throw Error(ErrorCode::usage, fmt::format("plan takes one folder, and '{}' is no command", clean(*word)),
                  "agentvm plan start PATH");
    if (run.args.positional(2))
      throw Error(ErrorCode::usage, fmt::format("'{}' is too much", clean(*run.args.positional(2))),
                  "agentvm help plan");
    if (const auto path = run.args.positional(named ? 1 : 0)) params["path"] = *path;
  }
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
  for (auto& option : run_options()) {
    option.help = "As for run";
    options.push_back(std::move(option));
  }
  options.push_back(json_option());
  return {
      .name = "plan",
      .group = "Host and settings",
      .summary = "Show what start or run would do and where each value comes from; runs nothing",
      .description =
          "Of another repository (run --repo) only the branch that its HEAD names is asked for: what its "
          "agentvm.yaml says is known once it is cloned.",
      .arguments = {{.name = "COMMAND",
                     .help = "start or run; start may be left out: a folder of the project stands here, "
                             "too",
                     .complete = Complete::directory},
                    {.name = "PATH",
                     .help = "start: a folder of the project; default: the working directory. run: the agent's task",
                     .repeatable = true,
                     .complete = Complete::directory}},
      .options = std::move(options),
      .trailing = {"CMD", false},
      .examples = {{"agentvm plan", "of start, here"},
                   {"agentvm plan run --repo owner/name -- make test", "which branch, which image, what it reaches"}},
      .run = plan};
}

}  // namespace agentvm::cli
