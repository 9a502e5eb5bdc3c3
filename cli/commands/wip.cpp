// Snapshots of uncommitted work, kept on the host.

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/client/terminal.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

/// "20260131T080910Z...", an old "2026-01-31T080910Z" or a reference: no sandbox has such a name.
bool is_snapshot(const std::string& word) {
  return word.starts_with("refs/") || (word.find('T') != std::string::npos && word.find('Z') != std::string::npos);
}

/// One word is a sandbox or a snapshot; two are both, in this order.
Json wip_params(Invocation& run) {
  auto params = request_params();
  const auto first = run.args.positional(0), second = run.args.positional(1);
  if (first && !second && is_snapshot(*first)) {
    params["wip"] = *first;
    return params;
  }
  if (first) params["name"] = *first;
  if (second) params["wip"] = *second;
  return params;
}

int list(Invocation& run) {
  const auto result = run.call("wip.list", run.params());
  run.show(result, render_wip(result, run.out.out_style(), run.out.width()));
  if (!run.out.json() && list_at(result, "wip").empty()) run.out.say("no uncommitted work is kept here");
  return 0;
}

int show(Invocation& run) {
  const auto result = run.call("wip.show", wip_params(run));
  run.show(result, render_wip_patch(result, run.out.out_style()));
  return 0;
}

int apply(Invocation& run) {
  auto params = wip_params(run);
  params["accept"] = run.args.enabled("accept");
  const auto result = run.call("wip.apply", params);
  run.show(result, render_wip_apply(result, run.out.out_style()));
  const auto outcome = text_at(result, "result");
  return outcome == "applied" || outcome == "up-to-date" ? 0 : exit_code(ErrorCode::decision_needed);
}

/// The references that `params` name, for the question.
std::int64_t count_doomed(const Json& listing, const Json& params) {
  if (true_at(params, "all")) return static_cast<std::int64_t>(list_at(listing, "wip").size());
  return 1;
}

int drop(Invocation& run) {
  auto params = wip_params(run);
  params["all"] = run.args.enabled("all");
  if (!true_at(params, "all") && !params.contains("wip"))
    throw Error(ErrorCode::usage, "drop needs the name of a snapshot, or --all", "agentvm wip list");
  if (true_at(params, "all") && params.contains("wip"))
    throw Error(ErrorCode::usage, "--all and the name of a snapshot exclude each other", "agentvm help wip drop");
  if (!run.args.enabled("force")) {
    if (!on_terminal())
      throw Error(ErrorCode::usage, "drop asks first, and this is no terminal", "agentvm wip drop --force ...");
    const auto count = count_doomed(run.call("wip.list", params), params);
    if (!ask(run.out, fmt::format("Drop {} of uncommitted work for good?", counted(count, "snapshot"))))
      throw Error(ErrorCode::cancelled, "nothing was dropped");
  }
  const auto result = run.call("wip.drop", params);
  if (run.out.json())
    run.out.print_json(result);
  else
    for (const auto& entry : list_at(result, "dropped"))
      run.out.say(fmt::format("dropped {} (its commit was {})", text_at(entry, "name"),
                              text_at(entry, "commit").substr(0, 10)));
  return 0;
}

CommandSpec make(std::string name, std::string summary, int (*function)(Invocation&)) {
  return {.name = "wip " + std::move(name),
          .group = "Everyday",
          .summary = std::move(summary),
          .arguments = {sandbox_argument()},
          .options = {json_option()},
          .run = function};
}

ArgumentSpec wip_argument(const char* help) {
  return {.name = "WIP", .help = help};
}

}  // namespace

std::vector<CommandSpec> wip_commands() {
  auto list_spec = make("list", "Show the uncommitted work of sandboxes that is kept on this host", list);
  list_spec.description =
      "Uncommitted work is kept as a commit below refs/agentvm/NAME/wip/ when a sandbox is stopped or destroyed, at "
      "the "
      "start after a crash, and while it runs every wip.interval_seconds. It outlives the sandbox.";
  auto show_spec = make("show", "Show one snapshot of uncommitted work: its files and its patch", show);
  show_spec.arguments.push_back(wip_argument("A name from 'wip list'; without it, the newest"));
  auto apply_spec = make("apply", "Bring uncommitted work into your own work tree, uncommitted", apply);
  apply_spec.description =
      "Merges what the snapshot changed with your work tree as it is. All of it or nothing: where both changed the "
      "same, where a file is in the way, or where something would run or steer a program on this host (see sync), "
      "nothing is touched, the files are named, and the status is 6.";
  apply_spec.arguments.push_back(wip_argument("A name from 'wip list'; without it, the newest"));
  apply_spec.options.insert(apply_spec.options.begin(),
                            {.name = "accept", .help = "Take what the last try listed as gated; nothing else"});
  apply_spec.examples = {{"agentvm wip apply", "the newest snapshot of this project's sandbox"},
                         {"agentvm wip apply web 20260131T080910Z", "another one"}};
  auto drop_spec = make("drop", "Remove snapshots of uncommitted work", drop);
  drop_spec.description = "Asks on a terminal; off a terminal it needs --force.";
  drop_spec.arguments.push_back(wip_argument("A name from 'wip list'"));
  drop_spec.options.insert(drop_spec.options.begin(),
                           {{.name = "all", .letter = 'a', .help = "Every one of the sandbox"},
                            {.name = "force", .letter = 'f', .help = "Do not ask"}});
  return {list_spec, show_spec, apply_spec, drop_spec};
}

}  // namespace agentvm::cli
