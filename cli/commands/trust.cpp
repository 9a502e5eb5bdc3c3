#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/client/terminal.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

Json place(Invocation& run) {
  auto params = request_params();
  if (const auto path = run.args.positional(0)) params["path"] = *path;
  return params;
}

int take_back(Invocation& run) {
  const auto result = run.call("trust.remove", place(run));
  if (run.out.json()) run.out.print_json(result);
  run.out.say(true_at(result, "removed") ? fmt::format("{} is not trusted any more", text_at(result, "project"))
                                         : fmt::format("nothing of {} was trusted", text_at(result, "project")));
  for (const auto& name : list_at(result, "running"))
    if (name.is_string())
      run.out.say(fmt::format("'{}' keeps until it stops what it was started with", clean(name.get<std::string>())));
  return 0;
}

std::size_t untrusted(const Json& shown) {
  std::size_t count = 0;
  for (const auto& row : list_at(shown, "keys")) count += text_at(row, "state") != "trusted";
  return count;
}

void confirm(Invocation& run, const Json& shown, std::size_t count) {
  if (run.args.enabled("force")) return;
  if (!on_terminal())
    throw Error(ErrorCode::usage, "trust asks first, and this is no terminal",
                fmt::format("agentvm trust --dry-run {0}, then agentvm trust --force {0}", text_at(shown, "project")));
  const auto text = render_trust(shown, run.out.out_style());
  run.out.json() ? run.out.say("\n" + text) : run.out.print(text);
  const auto question = fmt::format(
      "Let {} of {} count?", count == 1 ? "this key" : fmt::format("these {} keys", count), text_at(shown, "file"));
  if (!ask(run.out, question)) throw Error(ErrorCode::cancelled, "nothing was trusted");
}

int trust(Invocation& run) {
  if (run.args.enabled("remove")) return take_back(run);
  auto params = place(run);
  auto shown = run.call("trust.show", params);
  const auto count = untrusted(shown);
  if (run.args.enabled("dry-run") || count == 0) {
    run.show(shown, render_trust(shown, run.out.out_style()));
    if (count == 0)
      run.out.say(list_at(shown, "keys").empty()
                      ? fmt::format("{} asks for nothing that needs trust", text_at(shown, "file"))
                      : "all of it is trusted");
    return 0;
  }
  confirm(run, shown, count);
  params["digests"] = Json::object();
  for (const auto& row : list_at(shown, "keys"))
    params["digests"][require<std::string>(row, "name")] = require<std::string>(row, "digest");
  const auto result = run.call("trust.set", params);
  if (run.out.json()) run.out.print_json(result);
  run.out.say(fmt::format("{} {} from now on, as long as {} what was shown",
                          counted(static_cast<std::int64_t>(count), "key"), count == 1 ? "counts" : "count",
                          count == 1 ? "it says" : "they say"));
  return 0;
}

}  // namespace

CommandSpec trust_command() {
  return {
      .name = "trust",
      .group = "Host and settings",
      .summary = "Let what a project's agentvm.yaml asks for count",
      .description =
          "A guest can commit agentvm.yaml, so keys that give it more (network, egress.allow, image ...) do not count "
          "there by themselves. This shows them with what each resolves to, asks, and keeps a digest of each value: "
          "one that changes later, or whose recipe does, no longer counts until you trust it again. Off a terminal "
          "it needs --force.",
      .arguments = {{.name = "PATH",
                     .help = "A folder of the project; default: the working directory",
                     .complete = Complete::directory}},
      .options = {{.name = "dry-run", .letter = 'n', .help = "Show what would count, and change nothing"},
                  {.name = "force", .letter = 'f', .help = "Do not ask"},
                  {.name = "remove", .help = "Take back what was trusted of this project"},
                  json_option()},
      .examples = {{"agentvm trust", "show what this project asks for, and decide"},
                   {"agentvm trust --remove", "its keys no longer count"}},
      .run = trust};
}

}  // namespace agentvm::cli
