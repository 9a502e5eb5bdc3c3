#include "vmm/lifecycle.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace agentvm {
namespace {

using S = SandboxState;
using E = SandboxEvent;

constexpr S states[] = {S::defined, S::preparing, S::starting, S::running, S::paused,
                        S::saved,   S::stopping,  S::stopped,  S::failed,  S::destroying};
constexpr E events[] = {E::start, E::prepared, E::ready,   E::pause,  E::resume, E::saved,
                        E::stop,  E::ended,    E::crashed, E::failed, E::destroy};

struct Row {
  S state;
  E event;
  S next;
};

constexpr Row table[] = {
    {S::defined, E::start, S::preparing},
    {S::defined, E::destroy, S::destroying},

    {S::preparing, E::prepared, S::starting},
    {S::preparing, E::stop, S::stopping},
    {S::preparing, E::failed, S::failed},
    {S::preparing, E::destroy, S::destroying},

    {S::starting, E::ready, S::running},
    {S::starting, E::saved, S::saved},  // it could not go on from what was saved, which is still there
    {S::starting, E::stop, S::stopping},
    // A machine that ends before it was ready did not do what was asked, however orderly it ended.
    {S::starting, E::ended, S::failed},
    {S::starting, E::crashed, S::failed},
    {S::starting, E::failed, S::failed},
    {S::starting, E::destroy, S::destroying},

    {S::running, E::pause, S::paused},
    {S::running, E::saved, S::saved},
    {S::running, E::stop, S::stopping},
    {S::running, E::ended, S::stopped},  // the guest powered itself off
    {S::running, E::crashed, S::failed},
    {S::running, E::destroy, S::destroying},

    {S::paused, E::resume, S::running},
    {S::paused, E::saved, S::saved},
    {S::paused, E::stop, S::stopping},
    {S::paused, E::ended, S::stopped},
    {S::paused, E::crashed, S::failed},
    {S::paused, E::destroy, S::destroying},

    {S::saved, E::start, S::starting},
    {S::saved, E::stop, S::stopped},  // drops the memory image
    {S::saved, E::destroy, S::destroying},

    {S::stopping, E::stop, S::stopping},
    {S::stopping, E::ended, S::stopped},
    {S::stopping, E::crashed, S::stopped},  // gone is what was asked for
    {S::stopping, E::failed, S::failed},
    {S::stopping, E::destroy, S::destroying},

    {S::stopped, E::start, S::preparing},
    {S::stopped, E::destroy, S::destroying},

    {S::failed, E::start, S::preparing},
    {S::failed, E::stop, S::stopping},  // clears what a failed start could not undo
    {S::failed, E::destroy, S::destroying},

    {S::destroying, E::failed, S::destroying},  // the remaining steps are in the record
    {S::destroying, E::destroy, S::destroying},
};

/// What was asked for, as the end of "it cannot be ...".
std::string_view asked(E event) {
  switch (event) {
    case E::start:
      return "started";
    case E::pause:
      return "paused";
    case E::resume:
      return "resumed";
    case E::saved:
      return "saved";
    case E::stop:
      return "stopped";
    case E::destroy:
      return "destroyed";
    case E::prepared:
    case E::ready:
    case E::ended:
    case E::crashed:
    case E::failed:
      break;
  }
  return {};
}

/// The command that leads on from a state in which `event` was refused.
std::string help_for(S state, E event, std::string_view sandbox) {
  const auto command = [&](std::string_view verb) { return fmt::format("agentvm {} {}", verb, sandbox); };
  switch (state) {
    case S::running:
      return command("attach");
    case S::paused:
      return command("resume");
    case S::destroying:
      return command("destroy --force");
    case S::defined:
    case S::saved:
    case S::stopped:
    case S::failed:
      return event == E::stop ? command("status") : fmt::format("agentvm start --name {}", sandbox);
    case S::preparing:
    case S::starting:
    case S::stopping:
      break;
  }
  return command("status");
}

}  // namespace

std::span<const S> all_states() {
  return states;
}
std::span<const E> all_events() {
  return events;
}

std::string_view to_string(S state) {
  constexpr std::string_view names[] = {"defined", "preparing", "starting", "running", "paused",
                                        "saved",   "stopping",  "stopped",  "failed",  "destroying"};
  return names[static_cast<std::size_t>(state)];
}

std::string_view to_string(E event) {
  constexpr std::string_view names[] = {"start", "prepared", "ready",   "pause",  "resume", "saved",
                                        "stop",  "ended",    "crashed", "failed", "destroy"};
  return names[static_cast<std::size_t>(event)];
}

S sandbox_state_from(std::string_view text) {
  for (const auto state : states)
    if (to_string(state) == text) return state;
  throw Error(ErrorCode::operation_failed, fmt::format("unknown sandbox state '{}'", text));
}

std::optional<S> try_next(S state, E event) {
  for (const auto& row : table)
    if (row.state == state && row.event == event) return row.next;
  return std::nullopt;
}

S next(S state, E event, std::string_view sandbox) {
  if (const auto result = try_next(state, event)) return *result;
  const auto verb = asked(event);
  const auto message =
      verb.empty()
          ? fmt::format("sandbox '{}' is {}: '{}' cannot happen now", sandbox, to_string(state), to_string(event))
          : fmt::format("sandbox '{}' is {}: it cannot be {} now", sandbox, to_string(state), verb);
  throw Error(ErrorCode::wrong_state, message, help_for(state, event, sandbox));
}

bool may_have_machine(S state) {
  return state != S::defined && state != S::saved && state != S::stopped;
}

bool is_transitional(S state) {
  return state == S::preparing || state == S::starting || state == S::stopping || state == S::destroying;
}

std::string lifecycle_markdown() {
  std::string text = "| state |";
  for (const auto event : events) text += fmt::format(" {} |", to_string(event));
  text += "\n|-|";
  for (std::size_t i = 0; i < std::size(events); ++i) text += "-|";
  for (const auto state : states) {
    text += fmt::format("\n| **{}** |", to_string(state));
    for (const auto event : events) {
      const auto result = try_next(state, event);
      text += result ? fmt::format(" {} |", to_string(*result)) : " |";
    }
  }
  return text + "\n";
}

}  // namespace agentvm
