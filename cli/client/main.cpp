// agentvm: parses, runs one command, and is the one place where an error becomes text and an exit status.

#include <csignal>
#include <cstdlib>
#include <iostream>

#include "cli/client/invocation.hpp"

namespace {

using namespace agentvm;
using namespace agentvm::cli;

constexpr int own_failure_status = 125;

/// --json must be known before parsing succeeded, so that a usage error can be JSON too. Words after `--` are not ours.
bool wants_json(const std::vector<std::string>& words) {
  for (const auto& word : words) {
    if (word == "--") return false;
    if (word == "--json") return true;
  }
  return false;
}

/// exec and ssh pass the guest's status through, so ours must stand apart; which command it is shows even when parsing
/// failed.
bool passes_status_through(const std::vector<std::string>& words) {
  const auto* command = words.empty() ? nullptr : find_command(words[0]);
  return command && command->failures == Failures::guest_status;
}

int fail(Output& output, const std::vector<std::string>& words, const Error& error) {
  const bool through = passes_status_through(words);
  const int status = through && error.code() != ErrorCode::usage ? own_failure_status : exit_code(error.code());
  output.fail(error, status, through ? "agentvm" : "");
  return status;
}

int run(const std::vector<std::string>& words) {
  Output output(wants_json(words) ? Output::Format::json : Output::Format::text);
  // One of the three catch-alls.
  try {
    const auto arguments = parse_arguments(words);
    Invocation invocation(arguments, output);
    return arguments.command->run(invocation);
  } catch (const Error& error) {
    return fail(output, words, error);
  } catch (const ManagerLost&) {
    return fail(output, words,
                Error(ErrorCode::operation_failed, "the manager ended before it answered", "agentvm manager logs"));
  } catch (const std::exception& problem) {
    return fail(output, words, Error(ErrorCode::operation_failed, std::string("internal error: ") + problem.what()));
  }
}

}  // namespace

int main(int count, char** words) {
  // Writing to a closed pipe is an error that we see, except where a command asks for the default.
  std::signal(SIGPIPE, SIG_IGN);
  if (count == 2 && std::string_view(words[1]) == "--version") {
    std::cout << "agentvm " AGENTVM_VERSION "\n" << std::flush;
    return std::cout.good() ? 0 : exit_code(ErrorCode::operation_failed);
  }
  return run({words + 1, words + count});
}
