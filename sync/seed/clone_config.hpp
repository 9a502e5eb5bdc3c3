#pragma once
// The configuration of the sandbox's clone: written by us, from few things that are known to be harmless.

#include <string>
#include <vector>

#include "sync/host_git.hpp"

namespace agentvm::sync {

/// An address without what could be a secret: user and password for http(s) and others, only the password for ssh (its
/// user is part of the address). Anything that is no URL with "://" comes back as it is, scp-like "git@host:path"
/// included.
std::string address_without_secret(const std::string& address);

/// One line of git's configuration syntax: section "remote", subsection "origin", key "url".
std::string config_section(const std::string& section, const std::string& subsection);
std::string config_setting(const std::string& key, const std::string& value);

/// Text to append to the clone's config: remotes (url, pushurl, fetch) and branches (remote, merge) of the user's
/// repository.
std::string copied_config(const HostGit& git, Deadline deadline);

}  // namespace agentvm::sync
