#include <charconv>
#include <cmath>
#include <filesystem>

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/client/terminal.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/table.hpp"
#include "cli/replay/player.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::cli {
namespace {

constexpr double slowest = 0.01, fastest = 1000, longest_idle_seconds = 86'400, default_idle_seconds = 2;

double number_of(const Invocation& run, const char* option, double least, double most, double fallback) {
  if (!run.args.given(option)) return fallback;
  const auto text = run.args.text(option);
  double value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || rest != text.data() + text.size() || !(value >= least && value <= most))
    throw Error(ErrorCode::usage, fmt::format("--{}: '{}' is not a number from {} to {}", option, text, least, most),
                "agentvm help replay");
  return value;
}

std::string title_of(const Json& answer) {
  return fmt::format("agentvm {}", text_at(answer, "session"));
}

/// A line for the header and one for each event.
std::string cast_text(const Recording& recording, const Json& answer) {
  auto text = asciicast_header(recording, title_of(answer)) + "\n";
  for (const auto& event : asciicast_events(recording)) text += dump_json(event) + "\n";
  return text;
}

Json summary(const Recording& recording, Json answer) {
  answer["schema"] = "agentvm.replay/1";
  answer["begun"] = format_time(recording.begun_ms / 1000);
  answer["duration_seconds"] = recording.seconds();
  answer["columns"] = recording.columns;
  answer["rows"] = recording.rows;
  return answer;
}

int write_cast(Invocation& run, const Recording& recording, const Json& answer) {
  const auto file = run.args.text("cast");
  const auto text = cast_text(recording, answer);
  if (file == "-") {
    if (run.out.json()) throw Error(ErrorCode::usage, "--cast - and --json exclude each other", "agentvm help replay");
    run.out.print(text);
    return 0;
  }
  const auto path = std::filesystem::absolute(file).lexically_normal();
  write_file_atomic(path, text);  // 0600: it shows what a terminal showed
  auto result = summary(recording, answer);
  result["cast"] = path.string();
  if (run.out.json()) run.out.print_json(result);
  run.out.say(fmt::format("{} of {} are in {}", duration(static_cast<std::int64_t>(std::ceil(recording.seconds()))),
                          clean(text_at(answer, "session")), path.string()));
  return 0;
}

void warn_of_size(Invocation& run, const Recording& recording) {
  auto columns = recording.columns, rows = recording.rows;
  for (const auto& event : recording.events) {
    columns = std::max(columns, event.columns);
    rows = std::max(rows, event.rows);
  }
  const auto here = terminal_size();
  if (here.columns < columns || here.rows < rows)
    run.out.warn(fmt::format("it was recorded on a terminal of {}x{}, and this one has {}x{}", columns, rows,
                             here.columns, here.rows));
}

int replay(Invocation& run) {
  const PlayOptions options{number_of(run, "speed", slowest, fastest, 1),
                            number_of(run, "idle-limit", 0, longest_idle_seconds, default_idle_seconds)};
  const bool cast = run.args.given("cast");
  if (!cast && !run.out.json() && !run.out.out_is_terminal())
    throw Error(ErrorCode::usage, "replay plays on a terminal, and standard output is none",
                "agentvm replay --cast FILE");
  const auto answer = run.call("recording", terminal_params(run));
  const auto problem = text_at(answer, "problem", "");
  if (!problem.empty()) run.out.warn(clean(problem));
  const auto recording = read_recording(require<std::string>(answer, "folder"));
  if (recording.events.empty())
    throw Error(
        ErrorCode::not_found,
        fmt::format("nothing is recorded of the session {}: that begins when an agent does, or somebody attaches",
                    clean(text_at(answer, "session"))),
        "agentvm attach " + text_at(answer, "name"));
  if (cast) return write_cast(run, recording, answer);
  if (run.out.json()) {
    auto result = summary(recording, answer);
    result["events"] = asciicast_events(recording);
    run.out.print_json(result);
    return 0;
  }
  warn_of_size(run, recording);
  return play(recording, options, run.out);
}

}  // namespace

Json terminal_params(Invocation& run) {
  auto params = run.params();
  if (run.args.given("worktree")) params["worktree"] = run.args.text("worktree");
  return params;
}

CommandSpec replay_command() {
  return {.name = "replay",
          .group = "Everyday",
          .summary = "Play what a terminal session printed, as it went",
          .description =
              "On this terminal, with the pauses as they were: space holds it and lets it go on, q ends it. Text, "
              "colours, the cursor's ways and erasing are let through, and nothing that would make your terminal "
              "answer, or change its title, clipboard or modes. What is recorded: agentvm help logs.",
          .arguments = {sandbox_argument()},
          .options = {{.name = "worktree", .value = "BRANCH", .help = "The session of this branch's work tree"},
                      {.name = "speed", .value = "X", .help = "So many times as fast; default: 1"},
                      {.name = "idle-limit",
                       .value = "SECONDS",
                       .help = "No pause is longer than this; 0: as they were; default: 2"},
                      {.name = "cast",
                       .value = "FILE",
                       .help = "Write an asciicast (version 2) for other players instead, '-' to standard output",
                       .complete = Complete::file},
                      json_option()},
          .examples = {{"agentvm replay --speed 4", "what the agent did, four times as fast"},
                       {"agentvm replay --cast work.cast", "a file for asciinema and others"}},
          .run = replay};
}

}  // namespace agentvm::cli
