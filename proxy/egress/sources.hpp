#pragma once
// Which hosts `apt install`, `npm install` and `pip install` need: read from the host's own configuration. Pure;
// credentials never come along.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/egress/policy.hpp"

namespace agentvm::egress {

/// Hosts of http and https sources in one-line ("deb [options] URI suite ...") or deb822 text ("URIs: ..."), as grants:
/// mirrors resolve to private addresses in companies. Other schemes and lines that do not parse are left out; doubles
/// too.
std::vector<HostRule> package_source_entries(std::string_view text);

struct NpmConfig {
  std::string registry;           ///< URL without credentials; empty: npm's default
  std::vector<HostRule> entries;  ///< every registry's host, as grants; npm's default when none is configured
  std::string cafile;             ///< path on the host of extra authorities; empty: none
};
/// From the texts of npmrc files (later ones win) and the environment (npm_config_registry and the like win over all).
NpmConfig npm_config(const std::vector<std::string>& npmrc_texts,
                     const std::map<std::string, std::string>& environment);

struct PipConfig {
  std::string index;              ///< URL without credentials; empty: pip's default
  std::vector<HostRule> entries;  ///< hosts of index-url and extra-index-url, as grants; none when neither is set
};
/// From the texts of pip.conf files (later ones win).
PipConfig pip_config(const std::vector<std::string>& texts);

/// Paths of PEM files with authorities that the host's programs trust in addition: NODE_EXTRA_CA_CERTS and npm's
/// cafile. Their content belongs in the guest's store, or TLS to an inspecting company proxy fails there.
std::vector<std::string> extra_authority_files(const NpmConfig& npm,
                                               const std::map<std::string, std::string>& environment);

/// The entries of the user's or project's `egress.allow`. Throws `usage` naming the entry that does not parse.
std::vector<HostRule> allow_entries(const std::vector<std::string>& texts, std::string_view origin);
/// The union, without doubles; an entry that is a grant in one of them is a grant.
std::vector<HostRule> merged(std::vector<std::vector<HostRule>> lists);

/// Host and port of an http or https URL; nothing for anything else. A user name and password are dropped.
std::optional<HostPort> url_authority(std::string_view url);

}  // namespace agentvm::egress
