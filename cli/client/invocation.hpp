#pragma once
// One run of one command: its words, where its output goes, and the way to the manager.

#include "cli/client/connection.hpp"
#include "cli/client/output.hpp"
#include "cli/client/parse.hpp"
#include "cli/client/request.hpp"

namespace agentvm::cli {

class Invocation {
 public:
  Invocation(const Arguments& arguments, Output& output) : args(arguments), out(output), paths(resolve_paths()) {}

  const Arguments& args;
  Output& out;
  const Paths paths;

  /// Working directory, environment, and "name" where a NAME was given as the first argument.
  Json params() const;
  /// A request to the manager, started where none runs.
  Json call(const std::string& method, const Json& request) { return call_manager(paths, method, request, out); }
  /// The result as it is with `--json`, else `text`.
  void show(const Json& result, const std::string& text) { out.json() ? out.print_json(result) : out.print(text); }
};

/// The configuration flags that were given: {"memory": "8G", "nested": "false"}.
Json given_config_flags(const Arguments& arguments);
/// Those of our variables that the agent of this start is to get: the manager names them, and gets no others.
Json agent_variables(Invocation& run, const Json& start_params);
/// Asks on standard error, reads a line of standard input; true for y or yes. Only where both are terminals.
bool ask(Output& output, const std::string& question);

}  // namespace agentvm::cli
