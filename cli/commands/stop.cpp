#include <charconv>

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

/// "30", "30s", "5m", "1h" in seconds.
unsigned parse_seconds(const std::string& text) {
  constexpr unsigned longest = 24 * 3600;
  unsigned value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const unsigned factor = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (problem != std::errc() || factor == 0 || value > longest / factor)
    throw Error(ErrorCode::usage, fmt::format("--timeout: '{}' is not a time like 30s, 5m or 1h", text),
                "agentvm help stop");
  return value * factor;
}

void say_state(Invocation& run, const Json& status) {
  run.out.say(fmt::format("'{}' is {}", text_at(status, "name"), text_at(status, "state")));
  for (const auto& ref : list_at(status, "rescued"))
    run.out.say("kept as " + (ref.is_string() ? clean(ref.get<std::string>()) : text_at(ref, "name")));
}

int call_and_say(Invocation& run, const char* method, const Json& params) {
  const auto result = run.call(method, params);
  if (run.out.json())
    run.out.print_json(result);
  else
    say_state(run, result);
  return 0;
}

int stop(Invocation& run) {
  auto params = run.params();
  params["force"] = run.args.enabled("force");
  params["sync"] = run.args.enabled("sync");
  params["timeout_seconds"] = parse_seconds(run.args.text("timeout", "30s"));
  if (!run.args.enabled("all")) return call_and_say(run, "stop", params);
  if (run.args.positional(0)) throw Error(ErrorCode::usage, "--all and NAME exclude each other", "agentvm help stop");
  auto listing = request_params();
  const auto sandboxes = run.call("list", listing);
  Json results = Json::array();
  int code = 0;
  for (const auto& sandbox : list_at(sandboxes, "sandboxes")) {
    const auto state = text_at(sandbox, "state");
    if (state != "running" && state != "paused" && state != "starting") continue;
    params["name"] = require<std::string>(sandbox, "name");
    try {
      results.push_back(run.call("stop", params));
      if (!run.out.json()) say_state(run, results.back());
    } catch (const Error& error) {
      // The others are still to be stopped; the first failure is what we end with.
      if (code == 0) code = exit_code(error.code());
      run.out.warn(fmt::format("'{}': {}", text_at(sandbox, "name"), error.what()));
      results.push_back({{"name", params["name"]}, {"error", wire::to_json(error)}});
    }
  }
  if (run.out.json())
    run.out.print_json({{"schema", "agentvm.stop/1"}, {"sandboxes", results}});
  else if (results.empty())
    run.out.say("no sandbox is running");
  return code;
}

}  // namespace

CommandSpec suspend_command() {
  return {
      .name = "suspend",
      .group = "Everyday",
      .summary = "Stop a sandbox's processors; its memory and processes stay",
      .description =
          "It takes no processor time until 'agentvm resume'; commands and terminals that are open go on then. Its "
          "memory stays in use, and a restart of the host ends it as a crash would. Uncommitted work is brought to the "
          "host first. With --save its memory goes to the disk: nothing is in use, and it goes on after a restart of "
          "the host, too; what is connected to it from outside then ends. For sandboxes with --workspace disk.",
      .arguments = {sandbox_argument()},
      .options = {{.name = "save", .help = "Keep its memory on the disk, and end its machine"}, json_option()},
      .run = [](Invocation& run) {
        auto params = run.params();
        params["save"] = run.args.enabled("save");
        return call_and_say(run, "suspend", params);
      }};
}

CommandSpec resume_command() {
  return {.name = "resume",
          .group = "Everyday",
          .summary = "Let a suspended or frozen sandbox go on",
          .description =
              "The guest gets the time of this moment. 'agentvm start' does the same for a suspended one. One "
              "that was frozen, because it sent a decoy, goes on with this alone; if it was stopped "
              "meanwhile, it may be started again.",
          .arguments = {sandbox_argument()},
          .options = {json_option()},
          .run = [](Invocation& run) { return call_and_say(run, "resume", run.params()); }};
}

CommandSpec stop_command() {
  return {
      .name = "stop",
      .group = "Everyday",
      .summary = "Stop a sandbox; its disk and work stay",
      .description = "Uncommitted work in the guest is rescued to the host first.",
      .arguments = {sandbox_argument()},
      .options = {{.name = "force", .letter = 'f', .help = "Do not wait for the guest"},
                  {.name = "sync", .help = "Bring its commits to the host first"},
                  {.name = "all", .letter = 'a', .help = "Every running sandbox"},
                  {.name = "timeout", .value = "TIME", .help = "How long the guest may take to shut down; default 30s"},
                  json_option()},
      .run = stop};
}

}  // namespace agentvm::cli
