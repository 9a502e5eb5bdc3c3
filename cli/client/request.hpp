#pragma once
// One request to the manager, from a command's point of view.

#include "cli/client/connection.hpp"
#include "cli/client/output.hpp"

namespace agentvm::cli {

/// Sends the request, shows progress and warnings, and returns the result; throws what the manager answered.
/// The first Ctrl-C (or TERM, HUP) asks the manager to cancel, the second ends this process at once.
/// Throws `operation_failed` when the manager is lost before the answer.
Json call_manager(Connection& connection, const std::string& method, const Json& params, Output& output);

/// The same on a new connection, starting a manager where none is. When it is lost right away (idle exit at that
/// moment), tries once more: only for requests that may be repeated.
Json call_manager(const Paths& paths, const std::string& method, const Json& params, Output& output);

/// cwd and the environment that configuration reads, as every request carries them: {"cwd", "env"}.
Json request_params();

/// "a,b" as ["a", "b"]; empty parts are left out.
Json listed_names(std::string_view text);

}  // namespace agentvm::cli
