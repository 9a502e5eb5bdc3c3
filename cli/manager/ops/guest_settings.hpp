#pragma once
// What makes a guest this sandbox's guest, put together on the host: identity, settings files, and the way out.

#include <optional>

#include "cli/manager/ops/core.hpp"
#include "guest/control/control.hpp"
#include "guest/protocol/identity.hpp"

namespace agentvm::manager {

struct GitIdentity {
  std::string name, email;
};
/// user.name and user.email as git finds them for the project; nothing when one is not set.
std::optional<GitIdentity> host_git_identity(const fs::path& project);
/// What commits name when the host has no identity to give.
std::string fallback_git_email(const std::string& sandbox);

guest::Identity guest_identity(Core& core, const SandboxRecord& record, const Image& image);

/// The folder of the guest that update-ca-certificates reads.
inline constexpr const char* guest_authorities_folder = "/usr/local/share/ca-certificates";

/// PEM certificates that this host trusts beyond its distribution's.
std::vector<std::string> host_authorities();
/// Makes the guest's stores trust what `guest_identity` brought along, once per disk and set of authorities. Throws
/// when the guest fails.
void trust_authorities(Core& core, const SandboxRecord& record, guest::Control& control, Deadline deadline);

/// Puts the sandbox's decoys where a guest finds them. What is there already stays, and is named in the result: paths
/// from the agent's home. Throws when the guest fails.
std::vector<std::string> plant_decoys(Core& core, const SandboxRecord& record, guest::Control& control,
                                      Deadline deadline);

}  // namespace agentvm::manager
