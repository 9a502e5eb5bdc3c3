// A branch each, beside /workspace.

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

Json branch_params(Invocation& run) {
  auto params = request_params();
  params["branch"] = *run.args.positional(0);
  if (const auto name = run.args.positional(1)) params["name"] = *name;
  return params;
}

int add(Invocation& run) {
  auto params = branch_params(run);
  params["create"] = run.args.enabled("create");
  params["task"] = run.args.trailing;
  const auto result = run.call("worktree.add", params);
  run.show(result, text_at(result, "path") + "\n");
  if (!run.out.json())
    run.out.say(fmt::format("'{}' has its own work tree and session: agentvm attach {} --worktree {}",
                            text_at(result, "branch"), text_at(result, "name"), text_at(result, "branch")));
  return 0;
}

int list(Invocation& run) {
  const auto result = run.call("worktree.list", run.params());
  run.show(result, render_worktrees(result, run.out.out_style(), run.out.width()));
  if (!run.out.json() && list_at(result, "worktrees").empty())
    run.out.say(
        fmt::format("'{}' has no work tree besides /workspace: agentvm worktree add BRANCH", text_at(result, "name")));
  return 0;
}

int remove(Invocation& run) {
  auto params = branch_params(run);
  params["force"] = run.args.enabled("force");
  const auto result = run.call("worktree.remove", params);
  if (run.out.json()) {
    run.out.print_json(result);
    return 0;
  }
  for (const auto& ref : list_at(result, "rescued"))
    run.out.say("kept as " + clean(ref.is_string() ? ref.get<std::string>() : ""));
  run.out.say(fmt::format("the work tree of '{}' is removed; its branch stays", text_at(result, "branch")));
  return 0;
}

CommandSpec make(std::string name, std::string summary, int (*function)(Invocation&)) {
  return {.name = "worktree " + std::move(name),
          .group = "Everyday",
          .summary = std::move(summary),
          .options = {json_option()},
          .run = function};
}

}  // namespace

std::vector<CommandSpec> worktree_commands() {
  const ArgumentSpec branch{.name = "BRANCH", .help = "A branch of the sandbox", .required = true};
  auto add_spec = make("add", "Check out another branch beside /workspace", add);
  add_spec.description =
      "The work tree is a folder below /workspace/.worktrees in the guest, with a terminal session of its own: several "
      "agents can work on several branches at once. A sandbox that was started with an agent starts one there, too; "
      "words after -- are its first task. Commits come home with 'agentvm sync --branch BRANCH'.";
  add_spec.arguments = {branch, sandbox_argument()};
  add_spec.options.insert(
      add_spec.options.begin(),
      {.name = "create", .letter = 'c', .help = "Make the branch, from the sandbox's current commit"});
  add_spec.examples = {{"agentvm worktree add feature/login --create", "a new branch with a folder and a session"},
                       {"agentvm exec --worktree feature/login -- make test", "run something there"},
                       {"agentvm worktree add fix/parser --create -- fix the parser", "an agent at work there"}};
  add_spec.trailing = {"TASK", false};
  auto list_spec = make("list", "Show the work trees of a sandbox, and what is only in them", list);
  list_spec.arguments = {sandbox_argument()};
  auto remove_spec = make("remove", "Remove a work tree; its branch stays", remove);
  remove_spec.description =
      "With commits that the host does not have, or with uncommitted changes, nothing is removed and the status is 6; "
      "--force brings both to the host first.";
  remove_spec.arguments = {branch, sandbox_argument()};
  remove_spec.options.insert(
      remove_spec.options.begin(),
      {.name = "force", .letter = 'f', .help = "Keep what is in it on the host, then remove it"});
  return {add_spec, list_spec, remove_spec};
}

}  // namespace agentvm::cli
