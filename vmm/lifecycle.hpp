#pragma once
// The life of a sandbox as one pure function over a table.
//
// Job: which event is allowed in which state and where it leads; the text when it is not. Not its job: doing any of it,
// and timers. The events `start`, `stop`, `destroy`, `pause`, `resume` are requests; the others report what happened.
// Requests that were interrupted (manager killed) may be made again: `stop` in `stopping`, `destroy` in `destroying`.
// The end of `destroying` is the end of the record.

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace agentvm {

enum class SandboxState { defined, preparing, starting, running, paused, saved, stopping, stopped, failed, destroying };

enum class SandboxEvent {
  start,     ///< somebody asks for a running sandbox
  prepared,  ///< image, disk, keys and workspace are there; the machine is being started
  ready,     ///< the last readiness probe passed
  pause,     ///< vCPUs are stopped
  resume,    ///< vCPUs run again
  saved,     ///< its memory is on disk and the machine is gone
  stop,      ///< somebody asks for the machine's end
  ended,     ///< the machine is gone, in an orderly way
  crashed,   ///< the machine is gone or useless (QEMU died, guest panicked)
  failed,    ///< a step of preparing, starting or stopping failed
  destroy,   ///< somebody asks for the sandbox's end
};

std::string_view to_string(SandboxState state);
std::string_view to_string(SandboxEvent event);
/// Throws `operation_failed` for unknown text.
SandboxState sandbox_state_from(std::string_view text);
std::span<const SandboxState> all_states();
std::span<const SandboxEvent> all_events();

/// Nothing when `event` is not allowed in `state`.
std::optional<SandboxState> try_next(SandboxState state, SandboxEvent event);
/// Throws `wrong_state` naming the sandbox, its state, the event and the command that helps.
SandboxState next(SandboxState state, SandboxEvent event, std::string_view sandbox);

/// Whether a machine may exist in this state, so that reconciling looks for one.
bool may_have_machine(SandboxState state);
/// Whether only work in progress leaves this state: after the manager's death somebody must decide.
bool is_transitional(SandboxState state);

/// The whole table as Markdown: one row per state, one column per event.
std::string lifecycle_markdown();

}  // namespace agentvm
