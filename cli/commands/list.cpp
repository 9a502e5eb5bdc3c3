#include <algorithm>
#include <csignal>
#include <optional>

#include <poll.h>

#include "cli/client/connection.hpp"
#include "cli/client/invocation.hpp"
#include "cli/client/request.hpp"
#include "cli/client/signals.hpp"
#include "cli/client/terminal.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

constexpr int turn_milliseconds = 1'000;
constexpr int signal_exit_base = 128;

/// The terminal's other screen while it lives: what was there before comes back.
class Screen {
 public:
  Screen(Output& out, bool on) : out_(out), on_(on) {
    if (on_) out_.print("\x1b[?1049h\x1b[?25l");
  }
  ~Screen() {
    try {
      if (on_) out_.print("\x1b[?25h\x1b[?1049l");
    } catch (const Error&) {  // nobody reads it any more
    }
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  /// Draws over what is there: a cleared screen would flicker.
  void show(const std::string& text) {
    const auto rows = terminal_size().rows;
    std::string drawn = "\x1b[H";
    std::size_t begin = 0;
    for (unsigned row = 0; row + 1 < rows && begin < text.size(); ++row) {
      const auto end = std::min(text.find('\n', begin), text.size());
      drawn += text.substr(begin, end - begin) + "\x1b[K\r\n";
      begin = end + 1;
    }
    out_.print(drawn + "\x1b[J");
  }

 private:
  Output& out_;
  const bool on_;
};

/// What is worth a new line: not the passing of time.
Json without_clocks(Json result) {
  if (!result.is_object()) return result;
  for (auto& sandbox : result["sandboxes"]) {
    sandbox.erase("uptime_seconds");
    auto& agent = sandbox["agent"];
    if (!agent.is_object()) continue;
    agent.erase("since_seconds");
    for (auto& worktree : agent["worktrees"]) worktree.erase("since_seconds");
  }
  return result;
}

/// Nothing when no manager runs: whoever looks on does not start again what somebody else has ended.
std::optional<Json> look_again(Invocation& run, const Json& params) {
  try {
    auto connection = connect_manager(run.paths, Spawn::never);
    return call_manager(connection, "list", params, run.out);
  } catch (const ManagerLost&) {
    return std::nullopt;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    return std::nullopt;
  }
}

/// Shows the list and whatever changes in it, until a signal comes; looks once a second.
int watch(Invocation& run, const Json& params) {
  SignalWatch signals(SignalWatch::Window::watch);
  const bool live = run.out.out_is_terminal() && !run.out.json();
  Screen screen(run.out, live);
  Json shown, result = run.call("list", params);
  for (;; result = look_again(run, params).value_or(Json())) {
    auto text = render_list(result, run.out.out_style(), run.out.width());
    if (text.empty()) text = result.is_null() ? "no manager runs: the next command starts one\n" : "no sandbox\n";
    if (live) {
      screen.show(text);
    } else if (auto now = without_clocks(result); !result.is_null() && now != shown) {
      // One object a line: whoever reads them need not guess where one ends.
      run.out.print(run.out.json() ? dump_json(result) + "\n" : (shown.is_null() ? "" : "\n") + text);
      shown = std::move(now);
    }
    pollfd entry{signals.fd(), POLLIN, 0};
    ::poll(&entry, 1, turn_milliseconds);
    while (const auto number = signals.take())
      if (*number != SIGWINCH && *number != SIGCONT) return signal_exit_base + *number;
  }
}

int list(Invocation& run) {
  auto params = request_params();
  if (run.args.given("state")) params["state"] = run.args.text("state");
  if (run.args.enabled("watch")) return watch(run, params);
  const auto result = run.call("list", params);
  run.show(result, render_list(result, run.out.out_style(), run.out.width()));
  if (!run.out.json() && list_at(result, "sandboxes").empty())
    run.out.say("no sandbox" +
                (run.args.given("state") ? " is " + run.args.text("state") : std::string(" yet: agentvm start")));
  return 0;
}

}  // namespace

CommandSpec list_command() {
  return {.name = "list",
          .aliases = {"ls", "ps"},
          .group = "Everyday",
          .summary = "List the sandboxes",
          .description =
              "Every sandbox with its state, and what waits for you: whether its agent works, waits or has ended and "
              "since when, and how many commits are not on the host yet.",
          .options = {{.name = "state",
                       .value = "STATE",
                       .help = "Only those in this state",
                       .choices = {"defined", "preparing", "starting", "running", "paused", "saved", "stopping",
                                   "stopped", "failed", "destroying"}},
                      {.name = "watch", .letter = 'w', .help = "Go on showing what changes, until it is interrupted"},
                      json_option()},
          .examples = {{"agentvm list --watch", "who works, who waits for you, who is done"}},
          .run = list};
}

}  // namespace agentvm::cli
