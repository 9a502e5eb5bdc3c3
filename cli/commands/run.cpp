#include <fmt/format.h>
#include <unistd.h>

#include "cli/commands/commands.hpp"
#include "cli/commands/process.hpp"
#include "cli/commands/repository.hpp"
#include "cli/render/render.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

constexpr milliseconds clone_limit{60 * 60'000};

/// By the user's own git, with their credentials and, on a terminal, its questions. What git says is on standard error.
std::filesystem::path clone_repository(Invocation& run, const std::string& asked) {
  const auto [url, shown, name] = repository_address(asked);
  constexpr std::size_t bytes = 4;
  const auto folder = run.paths.runs() / random_hex(bytes);
  ensure_private_dir(run.paths.data);
  ensure_private_dir(folder.parent_path());
  ensure_private_dir(folder);
  ProcessSpec spec;
  spec.argv = {"git", "clone"};
  if (run.args.given("branch")) spec.argv.insert(spec.argv.end(), {"--branch", run.args.text("branch")});
  spec.argv.insert(spec.argv.end(), {"--", url, (folder / name).string()});
  spec.fds = {{STDIN_FILENO, STDIN_FILENO}, {STDOUT_FILENO, STDERR_FILENO}, {STDERR_FILENO, STDERR_FILENO}};
  run.out.say("cloning " + shown);
  std::optional<ExitStatus> status;
  try {
    status = Process::spawn(spec).wait(Deadline::after(clone_limit));
  } catch (...) {
    remove_tree(folder);
    throw;
  }
  if (status && status->ok()) return folder / name;
  remove_tree(folder);
  throw Error(status ? ErrorCode::operation_failed : ErrorCode::timed_out, fmt::format("git could not clone {}", shown),
              "git ls-remote " + shell_word(shown));
}

Json run_params(Invocation& run, SessionOptions::Mode mode) {
  auto params = request_params();
  params["flags"] = given_config_flags(run.args);
  params["keep"] = run.args.enabled("keep");
  params["argv"] = run.args.trailing;
  params["task"] = joined_words(run.args.positionals);
  std::filesystem::path clone;
  if (run.args.given("repo")) {
    clone = clone_repository(run, run.args.text("repo"));
    params["path"] = clone.string();
    params["cwd"] = clone.string();
  }
  try {
    params["variables"] = agent_variables(run, params);
    add_process_params(run, mode, params);
  } catch (...) {
    if (!clone.empty())
      remove_tree(clone.parent_path());  // the manager, which removes it otherwise, knows nothing of it
    throw;
  }
  return params;
}

/// What became of the work, for people. The guest's own output is on the same terminal: ours is on standard error.
void tell(Invocation& run, const Json& result) {
  const auto name = text_at(result, "name");
  if (const auto found = result.find("sync"); found != result.end() && found->is_object()) {
    const auto outcome = text_at(*found, "result");
    auto text = render_sync(*found, Style{});
    while (text.ends_with('\n')) text.pop_back();
    if (outcome != "up-to-date") run.out.say("sync: " + text);
  }
  for (const auto& ref : list_at(result, "rescued"))
    if (ref.is_string() && ref.get<std::string>().find("/wip/") != std::string::npos)
      run.out.say(fmt::format("uncommitted work is kept as {}; `agentvm wip list {}` shows it",
                              clean(ref.get<std::string>()), name));
  if (const auto clone = text_at(result, "clone", ""); !clone.empty())
    run.out.say("the clone with its work is " + clone);
  // With a problem it is not known whether it does: that was told already.
  if (true_at(result, "kept") && object_at(result, "problem").empty())
    run.out.say(fmt::format("'{}' runs on: `agentvm attach {}`", name, name));
}

int exit_status(Invocation& run, const SessionEnd& end) {
  const int code = guest_exit_code(end.status);
  if (text_at(end.status, "kind", "lost") == "lost")
    run.out.warn("the connection to the guest was lost: how the command ended is unknown");
  int after = 0;
  if (const auto found = end.result.find("problem"); found != end.result.end() && found->is_object()) {
    const auto problem = wire::error_from(*found);
    after = exit_code(problem.code());
    run.out.warn(problem.what());
    if (!problem.hint().empty()) run.out.say("try: " + problem.hint());
  }
  if (const auto found = end.result.find("sync"); after == 0 && found != end.result.end() && found->is_object()) {
    const auto outcome = text_at(*found, "result");
    if (outcome != "updated" && outcome != "up-to-date") after = exit_code(ErrorCode::decision_needed);
  }
  return code != 0 ? code : after;
}

int run_command_in_sandbox(Invocation& run) {
  if (run.args.trailing.empty() == joined_words(run.args.positionals).empty())
    throw Error(ErrorCode::usage, "run needs either a command after -- or a task for an agent", "agentvm help run");
  const auto mode = process_mode(run);
  const auto params = run_params(run, mode);  // a clone may take its time: the manager is not kept waiting meanwhile
  auto connection = connect_manager(run.paths, Spawn::allowed);
  const auto end = run_session(connection, "run", params, {mode}, run.out);
  if (end.lost)
    throw Error(ErrorCode::operation_failed,
                "the manager was lost: the state of the guest process is unknown; its work is brought home and the "
                "sandbox removed as soon as a manager runs again",
                "agentvm list");
  const int code = exit_status(run, end);
  if (run.out.json()) {
    auto result = end.result;
    result["origin"] = text_at(end.status, "kind", "lost") == "lost" ? "agentvm" : "guest";
    result["exit_code"] = code;
    result["status"] = end.status;
    result["stdout"] = end.out;
    result["stderr"] = end.err;
    result["truncated"] = end.cut;
    run.out.print_json(result);
    return code;
  }
  tell(run, end.result);
  return code;
}

}  // namespace

CommandSpec run_command() {
  auto options = config_options();
  for (auto& option : run_options()) options.push_back(std::move(option));
  options.push_back(env_option());
  options.push_back({.name = "workdir", .letter = 'w', .value = "DIR", .help = "Folder in the guest"});
  options.push_back({.name = "tty", .letter = 't', .help = "Use a terminal in the guest", .negatable = true});
  options.push_back(json_option());
  return {
      .name = "run",
      .group = "Everyday",
      .summary = "Run one command, or an agent with one task, in a sandbox of its own",
      .description =
          "Makes a sandbox with a copy of the repository, runs the command there with your streams and terminal, "
          "brings its commits home as sync does, keeps what is uncommitted as wip does, and removes the sandbox, "
          "also when you interrupt it or it crashes. Runs do not see each other, nor the project's own sandbox. The "
          "status is the command's; where that is 0, it is 6 when commits wait for a decision. With --repo the "
          "clone is removed as well, unless there is something in it that its origin does not have.",
      .arguments = {{.name = "TASK", .help = "What the agent (--agent) is to do", .repeatable = true}},
      .options = std::move(options),
      .trailing = {"CMD", false},
      .examples = {{"agentvm run -- make test", "in a sandbox that is gone afterwards"},
                   {"agentvm run --agent claude \"fix the failing test\"", "its commits come home"},
                   {"agentvm run --repo owner/name --branch main -- ./ci.sh", "another repository"},
                   {"agentvm run --name lab -- ./prepare.sh", "and the sandbox stays"}},
      .failures = Failures::guest_status,
      .run = run_command_in_sandbox};
}

}  // namespace agentvm::cli
