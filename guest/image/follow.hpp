#pragma once
#include <functional>
#include <string_view>

#include "vmm/base/process.hpp"

namespace agentvm {

/// Hands over what `child` writes to `output`, line by line (without the newline), until it ends. Its end is what
/// counts, not that of the pipe: a daemon that a package started and forgot may hold the pipe open for ever. Throws
/// `timed_out` naming `what`, and `operation_failed` for a line of more than 1 MiB.
ExitStatus follow_lines(Process& child, int output, Deadline deadline, std::string_view what,
                        const std::function<void(std::string_view)>& line);

}  // namespace agentvm
