#pragma once
// Cheap looks at whether the guest is ready: no process is started for ssh and workspace.

#include <filesystem>

#include "guest/protocol/identity.hpp"

namespace agentvm::guest::agent {

/// Somebody listens on TCP `port` (IPv4 or IPv6, any address). `root`/proc is read.
bool port_listens(const std::filesystem::path& root, unsigned port);
/// sshd listens and /run/nologin, with which PAM turns everybody but root away, is gone.
bool ssh_ready(const std::filesystem::path& root, unsigned port = 22);
/// /workspace is what the identity asked for: a virtiofs mount, or the agent's folder.
bool workspace_ready(const std::filesystem::path& root, WorkspaceKind kind);

}  // namespace agentvm::guest::agent
