#include <fmt/format.h>

#include "cli/client/follow.hpp"
#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

constexpr int signal_exit_base = 128;

/// Syncs, shows that, and goes on with each sync that happens, whoever made it.
int watch(Invocation& run) {
  for (const char* other : {"dry-run", "accept", "branch"})
    if (run.args.given(other))
      throw Error(ErrorCode::usage, fmt::format("--watch and --{} exclude each other", other), "agentvm help sync");
  auto params = run.params();
  auto peek = params;
  peek["peek"] = true;
  const auto before = run.call("sync.next", peek);
  params["name"] = require<std::string>(before, "name");
  run.call("sync", params);                     // it is shown with those that follow
  const auto show = [&](const Json& outcome) {  // one object a line: whoever reads them need not guess where one ends
    run.out.print(run.out.json() ? dump_json(outcome) + "\n" : render_sync(outcome, run.out.out_style()));
  };
  const int signal = follow_syncs(run.paths, params, require<std::uint64_t>(before, "sequence"), show, run.out);
  if (signal != 0) return signal_exit_base + signal;
  run.out.say(fmt::format("'{}' does not run any more", text_at(before, "name")));
  return 0;
}

int sync(Invocation& run) {
  if (run.args.given("artifacts")) return bring_artifacts(run);
  if (run.args.given("to")) throw Error(ErrorCode::usage, "--to goes with --artifacts", "agentvm help sync");
  if (run.args.enabled("watch")) return watch(run);
  auto params = run.params();
  params["dry_run"] = run.args.enabled("dry-run");
  params["accept"] = run.args.enabled("accept");
  params["listed"] = true;
  if (run.args.given("branch")) params["branch"] = run.args.text("branch");
  const auto result = run.call("sync", params);
  run.show(result, render_sync(result, run.out.out_style()));
  const auto outcome = text_at(result, "result");
  return outcome == "updated" || outcome == "up-to-date" ? 0 : exit_code(ErrorCode::decision_needed);
}

}  // namespace

CommandSpec sync_command() {
  return {
      .name = "sync",
      .group = "Everyday",
      .summary = "Bring the sandbox's commits to the host",
      .description =
          "Checked commits always land in refs/agentvm/NAME/*. The branch you have checked out moves only "
          "by fast-forward, only with a clean tree, and not before you have seen what would run or steer something "
          "on this host (scripts of builds and packages, editor tasks, CI, hooks, new executables, links out of the "
          "tree ...); else nothing of yours changes, the status is 6, and the commands that help are named. Where the "
          "sandbox has gone on to another branch, your work tree follows it under the same conditions. Commits that "
          "you made meanwhile on the branch that you have checked out go into the sandbox's, which is made where it is "
          "missing, if that is a fast-forward and nothing is uncommitted there; your other branches are named. "
          "With --artifacts, files that git does not have come instead, those that differ in size or time; nothing is "
          "deleted.",
      .arguments = {sandbox_argument()},
      .options = {{.name = "dry-run", .letter = 'n', .help = "Say what would happen"},
                  {.name = "accept", .help = "Take what the last sync listed as gated; not what came after it"},
                  {.name = "branch",
                   .value = "BRANCH",
                   .help = "The branch to bring, and no other to follow; default: the guest's current one"},
                  {.name = "artifacts",
                   .value = "[GLOB...]",
                   .help = "Bring build products instead: what matches, or artifacts.paths",
                   .greedy = true},
                  {.name = "to",
                   .value = "DIR",
                   .help = "With --artifacts: into this folder instead of the project",
                   .complete = Complete::directory},
                  {.name = "watch", .letter = 'w', .help = "Go on with each commit, until it is interrupted"},
                  json_option()},
      .examples = {{"agentvm sync", "fetch what was committed inside"},
                   {"agentvm sync --watch", "and whatever is committed from now on"},
                   {"agentvm sync --artifacts", "the build folders"},
                   {"agentvm sync web --artifacts 'packages/*/dist' --to /tmp/web", "some of them, elsewhere"}},
      .run = sync};
}

}  // namespace agentvm::cli
