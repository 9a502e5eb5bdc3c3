#pragma once
// The part of an identity that is files: written below the guest's root, which a guest may have filled with links.

#include <filesystem>

#include "guest/protocol/identity.hpp"

namespace agentvm::guest::agent {

/// Writes hostname, hosts, machine-id, ssh keys, authorized keys, resolv.conf and `files` below `root`. Paths are
/// resolved as if `root` were "/": no link leads out of it, and the last part is replaced, never followed. Throws
/// naming the file.
void write_identity(const std::filesystem::path& root, const Identity& identity);
/// Writes hostname and hosts only.
void write_hostname(const std::filesystem::path& root, const std::string& hostname);
/// Replaces one file; missing folders above it are made (0755, the owner's).
void place_file(const std::filesystem::path& root, const GuestFile& file);

}  // namespace agentvm::guest::agent
