#pragma once
// A libvirtd of the test's own: its folders, configuration and sockets are private, and it ends with the test.

#include <optional>

#include "tests/contract/virt/support.hpp"

namespace agentvm::test {

/// /usr/sbin/libvirtd or wherever it is; empty where it is not installed.
std::string libvirt_daemon();

/// Moves this process into a mount namespace in which the folders of the system's daemon are ours: its URI then means
/// the one that we start, and one that runs for the host is out of sight. Before any thread; only root can.
void hide_system_daemon(const fs::path& folder);
/// Points the variables that libvirt's client and daemon read for a user's session below `folder`.
void use_session_folders(const fs::path& folder);

/// `--reaper PROGRAM ARGUMENT...` as main: runs the program and reaps what it leaves behind. Emulators are orphans by
/// design, and not every container has an init that takes them; libvirt would wait for them in vain.
int run_reaper(char** program);

/// Runs until it is destroyed. The machines are the test's to end.
class Daemon {
 public:
  enum class Scope { system, session };
  /// Returns when it answers; throws with the end of its log when it does not.
  Daemon(Scope scope, const fs::path& folder);
  ~Daemon();

 private:
  std::optional<Process> process_;
};

}  // namespace agentvm::test
