#pragma once
// A guest process seen through this process: exec and attach.

#include "cli/client/connection.hpp"
#include "cli/client/output.hpp"

namespace agentvm::cli {

struct SessionOptions {
  enum class Mode {
    plain,     ///< our standard streams are the guest process's; signals are forwarded
    terminal,  ///< our terminal in raw mode is the guest's; its size follows
    captured,  ///< output is kept and returned
  } mode = Mode::plain;
  bool input = true;  ///< false: nothing reads what we would send; our standard input is left alone
};

struct SessionEnd {
  bool lost = false;  ///< the manager went away in the middle: the state of the guest process is unknown
  Json status;        ///< of the "ended" event: {"kind", "code" | "signal"}
  Json result;
  std::string out, err;  ///< captured
  bool cut = false;
};

/// Sends `method` and serves its streams until it is answered and every byte is written. Throws what the manager
/// answered, and ManagerLost when it went away before the process began. Ends this process like SIGPIPE when our
/// standard output is closed.
SessionEnd run_session(Connection& connection, const std::string& method, const Json& params, SessionOptions options,
                       Output& output);

/// What a shell would return: the code, 128 + signal number, or 125 when it is not known how the process ended.
int guest_exit_code(const Json& status);

}  // namespace agentvm::cli
