// Raw TCP into a guest: databases, debuggers, whatever is no HTTP.

#include "cli/client/forward.hpp"

#include <charconv>

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"

namespace agentvm::cli {
namespace {

constexpr int signal_exit_base = 128;

struct Mapping {
  std::uint16_t host = 0, guest = 0;
};

std::optional<std::uint16_t> number(std::string_view text) {
  std::uint16_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

/// "8000:3000"; "3000" is the same port on both sides; "0:3000" any free one.
std::optional<Mapping> mapping(const std::string& text) {
  const auto colon = text.find(':');
  const auto host = number(text.substr(0, colon)), guest = number(text.substr(colon == text.npos ? 0 : colon + 1));
  return host && guest && *guest != 0 ? std::optional(Mapping{*host, *guest}) : std::nullopt;
}

int forward(Invocation& run) {
  const auto first = run.args.positional(0), second = run.args.positional(1);
  const auto& text = second ? second : first;
  const auto ports = text ? mapping(*text) : std::nullopt;
  if (!ports)
    throw Error(ErrorCode::usage, text ? fmt::format("'{}' is not HOSTPORT:GUESTPORT", *text) : "no port to forward",
                "agentvm help forward");
  auto params = run.params();
  if (!second) params.erase("name");
  // So that a name that is wrong, or a sandbox that does not run, is told now and not with the first connection.
  const auto sandbox = require<std::string>(run.call("ports", params), "name");
  params["name"] = sandbox;
  auto connection = connect_manager(run.paths, Spawn::allowed);
  const auto listening = [&](std::uint16_t port) {
    const auto address = fmt::format("127.0.0.1:{}", port);
    run.show({{"schema", "agentvm.forward/1"}, {"name", sandbox}, {"address", address}, {"guest_port", ports->guest}},
             fmt::format("{} leads to port {} of {}\n", address, ports->guest, sandbox));
    run.out.say("until it is interrupted");
  };
  try {
    return signal_exit_base + forward_port(connection, params, ports->host, ports->guest, listening, run.out);
  } catch (const ManagerLost&) {
    throw Error(ErrorCode::operation_failed, "the manager ended, and the connections with it",
                fmt::format("agentvm forward {} {}", sandbox, *text));
  }
}

}  // namespace

CommandSpec forward_command() {
  return {.name = "forward",
          .group = "Everyday",
          .summary = "Lead a port of this host's loopback into a sandbox (raw TCP)",
          .description =
              "Runs until it is interrupted. For dev servers nothing needs to be forwarded: see 'agentvm ports'.",
          .arguments = {sandbox_argument(),
                        {.name = "HOSTPORT:GUESTPORT", .help = "One number: the same on both sides; 0: any free one"}},
          .examples = {{"agentvm forward 5432", "the database of this project's sandbox"},
                       {"agentvm forward web 15432:5432", "of the sandbox web, on another port here"}},
          .run = forward};
}

}  // namespace agentvm::cli
