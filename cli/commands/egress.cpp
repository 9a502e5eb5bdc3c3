// What a sandbox reaches: what it tried, what it may, and changing that while it runs.

#include <fmt/format.h>
#include <sys/stat.h>

#include "cli/client/follow_lines.hpp"
#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

void say_network(Invocation& run, const Json& answer) {
  const auto network = text_at(answer, "network");
  if (network != "filtered")
    run.out.warn(fmt::format("the network of '{}' is {}: rules do not count there", text_at(answer, "name"), network));
}

int log(Invocation& run) {
  auto params = run.params();
  if (run.args.enabled("denied")) params["verdict"] = "denied";
  params["each"] = run.args.enabled("each");
  const auto answer = run.call("egress.log", params);
  std::string text;
  if (run.args.enabled("each"))
    for (const auto& entry : list_at(answer, "entries")) text += render_egress_event(entry, run.out.out_style());
  else
    text = render_egress_log(answer, run.out.out_style(), run.out.width());
  run.show(answer, text);
  if (run.out.json()) return 0;
  if (list_at(answer, "rows").empty()) run.out.say("nothing of that kind yet");
  say_network(run, answer);
  return 0;
}

/// One line of the journal, for this terminal or as JSON on a line of its own. Nothing for what is no entry.
std::string shown(const Invocation& run, std::string_view line) {
  Json entry;
  try {
    entry = parse_json(line, "journal");
  } catch (const Error&) {
    return "";
  }
  if (!entry.is_object()) return "";
  if (!run.out.json()) return render_egress_event(entry, run.out.out_style());
  entry["schema"] = "agentvm.egress-event/1";
  return entry.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

int watch(Invocation& run) {
  const auto answer = run.call("egress.log", run.params());
  const auto path = require<std::string>(answer, "path");
  say_network(run, answer);
  for (const auto& question : list_at(answer, "waiting"))
    run.out.say(fmt::format("{} waits for you: agentvm egress allow {} {}", text_at(question, "rule"),
                            text_at(answer, "name"), text_at(question, "rule")));
  run.out.say(fmt::format("watching '{}'; Ctrl-C ends it", text_at(answer, "name")));
  struct stat status {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  follow_lines(path, exists ? static_cast<std::uint64_t>(status.st_size) : 0, [&](std::string_view lines) {
    while (!lines.empty()) {
      const auto end = std::min(lines.find('\n'), lines.size());
      run.out.print(shown(run, lines.substr(0, end)));
      lines.remove_prefix(std::min(end + 1, lines.size()));
    }
  });
  return 0;
}

/// "[NAME] HOST": one word alone is the host.
Json host_params(Invocation& run) {
  const auto first = run.args.positional(0), second = run.args.positional(1);
  if (!first)
    throw Error(ErrorCode::usage, fmt::format("'agentvm {}' needs HOST", run.args.command->name),
                "agentvm help " + run.args.command->name);
  auto params = run.params();
  if (!second) params.erase("name");
  params["host"] = second.value_or(*first);
  return params;
}

int check(Invocation& run) {
  const auto answer = run.call("egress.check", host_params(run));
  run.show(answer, render_egress_check(answer, run.out.out_style()));
  return true_at(answer, "allowed") ? 0 : exit_code(ErrorCode::decision_needed);
}

int change(Invocation& run, const char* method, const char* verb) {
  auto params = host_params(run);
  params["remove"] = run.args.enabled("remove");
  const auto answer = run.call(method, params);
  if (run.out.json()) {
    run.out.print_json(answer);
    return 0;
  }
  const auto name = text_at(answer, "name"), rule = text_at(answer, "rule");
  if (!true_at(answer, "changed"))
    run.out.say(true_at(answer, "removed") ? fmt::format("'{}' has no such rule of its own", name)
                                           : fmt::format("'{}' has that rule already", name));
  else if (true_at(answer, "removed"))
    run.out.say(fmt::format("'{}' has lost the rule to {} {}", name, verb, rule));
  else
    run.out.say(fmt::format("{} is {} for '{}'{}", rule, std::string_view(verb) == "allow" ? "allowed" : "denied", name,
                            true_at(answer, "in_force") ? " from now on" : " when it runs"));
  say_network(run, answer);
  return 0;
}

int allow(Invocation& run) {
  return change(run, "egress.allow", "allow");
}
int deny(Invocation& run) {
  return change(run, "egress.deny", "deny");
}

int suggest(Invocation& run) {
  const auto answer = run.call("egress.suggest", run.params());
  std::string text = "egress:\n  allow:";
  const auto& rules = list_at(answer, "allow");
  if (rules.empty()) text += " []";
  text += "\n";
  for (const auto& rule : rules)
    text += fmt::format("    - {:<40}  # {} allowed, {} denied\n", text_at(rule, "rule"), number_at(rule, "allowed"),
                        number_at(rule, "denied"));
  run.show(answer, text);
  return 0;
}

CommandSpec make(const std::string& name, std::string summary, int (*function)(Invocation&)) {
  return {.name = "egress " + name,
          .group = "Network",
          .summary = std::move(summary),
          .arguments = {sandbox_argument()},
          .options = {json_option()},
          .run = function};
}

CommandSpec about_host(CommandSpec command, const std::string& help) {
  command.arguments.push_back({.name = "HOST", .help = help});
  return command;
}

CommandSpec changing(CommandSpec command) {
  command.options.insert(command.options.begin(), {.name = "remove", .help = "Take such a rule away again"});
  return command;
}

}  // namespace

std::vector<CommandSpec> egress_commands() {
  auto log_spec = make("log", "Show what a sandbox tried to reach, and what became of it", log);
  log_spec.options.insert(log_spec.options.begin(),
                          {{.name = "denied", .help = "Only what was denied"},
                           {.name = "each", .help = "Every connection instead of a row for those alike"}});
  auto watch_spec = make("watch", "Show connections as they come, until Ctrl-C", watch);
  watch_spec.options = {{.name = "json", .help = "One JSON object on a line per event"}};
  auto check_spec = about_host(make("check", "Say whether a host may be reached, and by which rule", check),
                               "A name, HOST:PORT for a port that is not 443");
  check_spec.description = "Nothing is connected to. The status is 0 when it is allowed and 6 when it is not.";
  auto allow_spec = changing(about_host(make("allow", "Let a sandbox reach a host, at once", allow),
                                        "A name, HOST:PORT, or *.example.org for every name below it"));
  allow_spec.description =
      "The rule is the sandbox's own: it counts while that runs, stays over its stops, and goes with it. Lists for "
      "every "
      "sandbox are in egress.allow.";
  allow_spec.examples = {
      {"agentvm egress allow registry.example.org:5000", "one more port for this project's sandbox"}};
  auto deny_spec = changing(about_host(make("deny", "Keep a sandbox from a host, at once", deny),
                                       "A name, HOST:PORT, or *.example.org for every name below it"));
  deny_spec.description = "It wins over everything that allows the host; connections to it end.";
  auto suggest_spec = make("suggest", "Print the smallest egress.allow that fits what a sandbox tried", suggest);
  suggest_spec.description =
      "Read it before you use it: a name that was denied is in the list because the guest asked for it, not because it "
      "is good.";
  return {log_spec, watch_spec, check_spec, allow_spec, deny_spec, suggest_spec};
}

}  // namespace agentvm::cli
