#pragma once
// PID 1 of the initramfs.

namespace agentvm::guest::agent {

/// Never returns: ends in systemd, or powers off after a line that names the step.
[[noreturn]] void run_init();

}  // namespace agentvm::guest::agent
