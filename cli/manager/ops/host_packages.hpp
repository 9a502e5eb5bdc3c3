#pragma once
// What this host's own package managers are set to: the guest's follow them.

#include <map>
#include <string>

#include "proxy/egress/sources.hpp"

namespace agentvm::manager {

/// The variables that npm and Node read, as far as they are set.
std::map<std::string, std::string> host_package_environment();
egress::NpmConfig host_npm_config();
egress::PipConfig host_pip_config();
/// The hosts of the package sources that a guest of this Debian suite gets, of npm's registries and of pip's indexes:
/// by name and port, and wherever they resolve to.
std::vector<egress::HostRule> host_package_rules(const std::string& suite);

}  // namespace agentvm::manager
