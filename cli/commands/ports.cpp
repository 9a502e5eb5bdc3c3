// Dev servers: what listens in a sandbox, and where it is on the host.

#include <charconv>

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::cli {
namespace {

int ports(Invocation& run) {
  const auto answer = run.call("ports", run.params());
  run.show(answer, render_ports(answer, run.out.out_style(), run.out.width()));
  if (run.out.json()) return 0;
  if (list_at(answer, "ports").empty()) run.out.say(fmt::format("nothing listens in {} yet", text_at(answer, "name")));
  if (const auto problem = text_at(answer, "problem", ""); !problem.empty()) run.out.warn("no URLs: " + problem);
  return 0;
}

bool is_port(const std::string& text) {
  std::uint16_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value > 0;
}

/// The entry that is meant: the port asked for, else the primary one.
const Json& wanted_port(const Json& answer, const std::string& port) {
  const auto name = text_at(answer, "name");
  for (const auto& entry : list_at(answer, "ports"))
    if (port.empty() ? true_at(entry, "primary") : std::to_string(number_at(entry, "port")) == port) return entry;
  throw Error(ErrorCode::not_found,
              port.empty() ? fmt::format("nothing listens in '{}' yet", name)
                           : fmt::format("nothing listens on port {} in '{}'", port, name),
              "agentvm ports " + name);
}

/// A desktop's browser, where there is a desktop.
void show_in_browser(Invocation& run, const std::string& url) {
  const bool desktop = std::getenv("DISPLAY") != nullptr || std::getenv("WAYLAND_DISPLAY") != nullptr;
  if (!run.out.out_is_terminal() || !desktop || find_program("xdg-open").empty()) return;
  ProcessSpec spec;
  spec.argv = {"xdg-open", url};
  spec.new_session = true;
  Process::spawn(spec).detach();
}

int open(Invocation& run) {
  // One word that is a number is a port: a sandbox named so is reached as `open 3000 8080`.
  const auto first = run.args.positional(0), second = run.args.positional(1);
  const bool only_port = first && !second && is_port(*first);
  const auto port = only_port ? *first : second.value_or("");
  if (!port.empty() && !is_port(port))
    throw Error(ErrorCode::usage, fmt::format("'{}' is not a port", port), "agentvm help open");
  auto params = run.params();
  if (only_port) params.erase("name");
  const auto answer = run.call("ports", params);
  const auto& entry = wanted_port(answer, port);
  const auto url = text_at(entry, "url", "");
  if (url.empty())
    throw Error(ErrorCode::host_lacks, fmt::format("there are no URLs: {}", text_at(answer, "problem")),
                "agentvm config show");
  // Without a port the name alone: it goes on working when the server moves to another one.
  const auto shown = port.empty() ? text_at(answer, "url", "") : url;
  run.show({{"schema", "agentvm.open/1"}, {"url", shown}, {"port", number_at(entry, "port")}}, shown + "\n");
  if (!run.out.json()) show_in_browser(run, shown);
  return 0;
}

}  // namespace

CommandSpec ports_command() {
  return {
      .name = "ports",
      .group = "Everyday",
      .summary = "Show the dev servers of a sandbox and their URLs",
      .description =
          "What listens in the guest appears by itself within a second, as http://PORT.NAME.localhost:8080/. "
          "The primary one is also http://NAME.localhost:8080/. A server that works in a work tree has its branch in "
          "the name: http://PORT.BRANCH.NAME.localhost:8080/. With proxy.tls all of them are https.",
      .arguments = {sandbox_argument()},
      .options = {json_option()},
      .run = ports};
}

CommandSpec open_command() {
  return {.name = "open",
          .group = "Everyday",
          .summary = "Print the URL of a dev server, and open it on a desktop",
          .arguments = {sandbox_argument(), {.name = "PORT", .help = "The guest's port; without it, the primary one"}},
          .options = {json_option()},
          .examples = {{"agentvm open 3000", "the server on port 3000 of this project's sandbox"}},
          .run = open};
}

}  // namespace agentvm::cli
