#include <algorithm>

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>

#include "cli/client/follow_lines.hpp"
#include "cli/client/invocation.hpp"
#include "cli/client/signals.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/table.hpp"
#include "cli/replay/recording.hpp"
#include "cli/replay/terminal_text.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

constexpr const char* kinds[] = {"boot", "manager", "agent"};
constexpr int follow_milliseconds = 1000;
constexpr std::size_t shown_bytes = 2u << 20;  // the logs themselves are bounded below that

int show_file(Invocation& run, const std::string& path, const char* schema) {
  const bool follows = run.args.enabled("follow");
  if (run.out.json() && follows)
    throw Error(ErrorCode::usage, "--follow and --json exclude each other", "agentvm help logs");
  struct stat status {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  const auto text = cleaned_lines(read_tail(path, shown_bytes));
  if (run.out.json())
    run.out.print_json({{"schema", schema}, {"path", path}, {"text", text}});
  else
    run.out.print(text);
  if (!exists && !run.out.json()) run.out.say(path + " does not exist yet");
  if (follows)
    follow_lines(path, exists ? static_cast<std::uint64_t>(status.st_size) : 0,
                 [&](std::string_view lines) { run.out.print(cleaned_lines(lines)); });
  return 0;
}

/// What tmux shows of it now: scrollback and screen. The text comes from the guest's terminal, and is cleaned on the
/// way.
int show_screen(Invocation& run) {
  if (run.args.enabled("follow"))
    throw Error(ErrorCode::usage, "--screen shows the terminal as it is; to follow it, look on",
                "agentvm attach --read-only");
  const auto answer = run.call("logs.agent", terminal_params(run));
  run.show(answer, cleaned_lines(require<std::string>(answer, "text")));
  if (!run.out.json() && !true_at(answer, "live"))
    run.out.say(
        fmt::format("'{}' does not run: this is what its terminal showed when it stopped", text_at(answer, "name")));
  return 0;
}

/// The end of `text`, whole lines.
std::string_view newest(std::string_view text) {
  if (text.size() <= shown_bytes) return text;
  text.remove_prefix(text.size() - shown_bytes);
  return text.substr(text.find('\n') + 1);
}

/// Nothing when no manager runs: whoever looks on starts none.
std::optional<Json> recording_again(Invocation& run) {
  try {
    auto connection = connect_manager(run.paths, Spawn::never);
    return call_manager(connection, "recording", terminal_params(run), run.out);
  } catch (const ManagerLost&) {
    return std::nullopt;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    return std::nullopt;
  }
}

/// Prints what is added, until a signal comes or the sandbox has stopped.
int follow_recording(Invocation& run, RecordingTail& tail, TerminalText& lines) {
  SignalWatch signals(SignalWatch::Window::ignore);
  for (;;) {
    pollfd entry{signals.fd(), POLLIN, 0};
    if (::poll(&entry, 1, follow_milliseconds) > 0) return 0;
    const auto now = recording_again(run);
    if (!now) continue;
    run.out.print(lines.feed(tail.read()));
    if (true_at(*now, "live")) continue;
    run.out.print(lines.rest());
    run.out.say(fmt::format("'{}' does not run any more", text_at(*now, "name")));
    return 0;
  }
}

int show_recording(Invocation& run) {
  const bool follows = run.args.enabled("follow");
  if (run.out.json() && follows)
    throw Error(ErrorCode::usage, "--follow and --json exclude each other", "agentvm help logs");
  auto answer = run.call("recording", terminal_params(run));
  const auto folder = require<std::string>(answer, "folder");
  if (recorded_segments(folder).empty() && !follows) {
    if (!run.out.json()) run.out.say("nothing is recorded: this is what its terminal shows");
    return show_screen(run);
  }
  const auto problem = text_at(answer, "problem", "");
  if (!problem.empty()) run.out.warn(clean(problem));
  RecordingTail tail(folder);
  TerminalText lines;
  auto text = lines.feed(tail.read());
  if (!follows) text += lines.rest();
  answer["schema"] = "agentvm.logs/1";
  answer["text"] = newest(text);
  run.show(answer, std::string(newest(text)));
  if (follows) return follow_recording(run, tail, lines);
  if (!run.out.json() && !true_at(answer, "live"))
    run.out.say(fmt::format("'{}' does not run: this is what its terminal printed before", text_at(answer, "name")));
  return 0;
}

int logs(Invocation& run) {
  const auto chosen =
      std::count_if(std::begin(kinds), std::end(kinds), [&](auto* each) { return run.args.enabled(each); });
  if (chosen > 1)
    throw Error(ErrorCode::usage, "--boot, --manager and --agent exclude each other", "agentvm help logs");
  const bool screen = run.args.enabled("screen");
  for (const char* option : {"worktree", "screen"})
    if (run.args.given(option) && !run.args.enabled("agent"))
      throw Error(ErrorCode::usage, fmt::format("--{} goes with --agent: the others know no terminals", option),
                  "agentvm help logs");
  if (run.args.enabled("agent")) return screen ? show_screen(run) : show_recording(run);
  if (run.args.enabled("manager")) {
    if (run.args.positional(0))
      throw Error(ErrorCode::usage, "--manager and NAME exclude each other", "agentvm help logs");
    return show_file(run, run.paths.manager_log().string(), "agentvm.logs/1");
  }
  auto params = run.params();
  params["which"] = "boot";
  const auto answer = run.call("logs", params);
  return show_file(run, require<std::string>(answer, "path"), "agentvm.logs/1");
}

}  // namespace

int show_manager_log(Invocation& run) {
  return show_file(run, run.paths.manager_log().string(), "agentvm.manager-logs/1");
}

CommandSpec logs_command() {
  return {.name = "logs",
          .group = "Everyday",
          .summary = "Show what the guest printed on its console, what its agent printed, or the manager's log",
          .description =
              "What a terminal session prints is recorded in the guest, the newest 8 MiB, and copied to the host when "
              "somebody asks, every minute, and when the sandbox stops; it is shown as text, and 'agentvm replay' "
              "plays it. A program that draws over its screen prints the same again and again: --screen shows what "
              "there is to see now.",
          .arguments = {sandbox_argument()},
          .options = {{.name = "follow", .letter = 'f', .help = "Go on as it grows, until Ctrl-C"},
                      {.name = "boot", .help = "The guest's console (the default)"},
                      {.name = "agent", .help = "What the agent's terminal session printed, as text"},
                      {.name = "screen",
                       .help = "With --agent: what its terminal shows, or showed when the sandbox stopped"},
                      {.name = "worktree", .value = "BRANCH", .help = "With --agent: the session of this work tree"},
                      {.name = "manager", .help = "The manager's own log"},
                      json_option()},
          .examples = {{"agentvm logs --agent --follow", "read along with what the agent prints"}},
          .run = logs};
}

}  // namespace agentvm::cli
