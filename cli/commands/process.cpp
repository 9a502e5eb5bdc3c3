#include "cli/commands/process.hpp"

#include <cstdlib>

#include <fmt/format.h>
#include <unistd.h>

#include "cli/client/terminal.hpp"
#include "cli/render/table.hpp"

namespace agentvm::cli {
namespace {

Json added_environment(const Arguments& arguments) {
  const auto help = "agentvm help " + arguments.command->name;
  Json env = Json::object();
  for (const auto& entry : arguments.all("env")) {
    const auto equals = entry.find('=');
    if (equals == 0) throw Error(ErrorCode::usage, fmt::format("--env: '{}' has no name", entry), help);
    if (equals != std::string::npos) {
      env[entry.substr(0, equals)] = entry.substr(equals + 1);
    } else if (const char* value = std::getenv(entry.c_str())) {
      env[entry] = value;
    } else {
      throw Error(ErrorCode::usage, fmt::format("--env: '{}' is not set here; write {}=VALUE", entry, entry), help);
    }
  }
  return env;
}

}  // namespace

SessionOptions::Mode process_mode(Invocation& run) {
  if (run.out.json()) {
    if (run.args.given("tty") && run.args.enabled("tty"))
      throw Error(ErrorCode::usage, "--tty and --json exclude each other", "agentvm help " + run.args.command->name);
    return SessionOptions::Mode::captured;
  }
  if (run.args.given("tty")) {
    const bool wanted = run.args.enabled("tty");
    return wanted ? SessionOptions::Mode::terminal : SessionOptions::Mode::plain;
  }
  return on_terminal() && !run.args.enabled("detach") ? SessionOptions::Mode::terminal : SessionOptions::Mode::plain;
}

void add_process_params(Invocation& run, SessionOptions::Mode mode, Json& params) {
  params["guest_env"] = added_environment(run.args);
  if (run.args.given("workdir")) params["workdir"] = run.args.text("workdir");
  params["tty"] = mode == SessionOptions::Mode::terminal;
  if (mode == SessionOptions::Mode::terminal) {
    const auto size = terminal_size();
    const char* term = std::getenv("TERM");
    params["columns"] = size.columns;
    params["rows"] = size.rows;
    params["term"] = term && *term ? term : "xterm-256color";
  }
}

OptionSpec env_option() {
  return {.name = "env",
          .letter = 'e',
          .value = "K=V",
          .help = "Set a variable; K alone passes ours on",
          .repeatable = true};
}

bool bring_up(Invocation& run, const Json& params) {
  const auto status = run.call("status", params);
  if (!true_at(status, "autostart")) return false;
  const auto name = text_at(status, "name"), state = text_at(status, "state");
  auto request = request_params();
  if (state == "paused" || state == "saved") {
    run.out.say(fmt::format("resuming '{}' (autostart)", name));
    request["name"] = name;
    run.call("resume", request);
    return true;
  }
  if (state != "stopped") return false;  // a failure is for a person to look at
  run.out.say(fmt::format("starting '{}' (autostart)", name));
  request["path"] = text_at(status, "project");
  request["flags"] = {{"name", name}};
  request["variables"] = agent_variables(run, request);
  run.call("start", request);
  return true;
}

void hand_over(Invocation& run, std::vector<std::string> words) {
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  run.out.clear_progress();
  ::execv(argv[0], argv.data());
  throw_errno("running " + words[0]);
}

}  // namespace agentvm::cli
