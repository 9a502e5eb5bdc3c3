#pragma once
// The host's own package sources, as far as they are a Debian archive, without anything secret.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm {

/// One `deb` line: an archive, one suite of it, its components.
struct PackageSource {
  std::string uri;  ///< http or https, never with user or password
  std::string suite;
  std::vector<std::string> components;
  std::string signed_by;  ///< absolute path of a keyring, or empty: the keys that apt trusts anyway

  bool operator==(const PackageSource&) const = default;
};

/// Entries of a sources.list. Lines that are not understood are skipped: apt on the host is their judge, not we.
std::vector<PackageSource> parse_sources_list(std::string_view text);
/// Entries of a deb822 `.sources` file; disabled stanzas are left out.
std::vector<PackageSource> parse_deb822_sources(std::string_view text);

/// Of `all`, what offers Debian's `suite` (itself, -updates, -security) with component main. When the host has another
/// Debian suite only, the same archives with the wanted suite. Third parties (their suite or components differ) are
/// left out. May be empty.
std::vector<PackageSource> debian_sources(const std::vector<PackageSource>& all, const std::string& suite);

/// Reads `apt_folder`/sources.list and sources.list.d; falls back to Debian's public archive when there is nothing for
/// `suite`. Never reads auth.conf or apt's certificate settings.
std::vector<PackageSource> host_sources(const std::filesystem::path& apt_folder, const std::string& suite);

/// As a sources.list, one line per entry.
std::string render_sources(const std::vector<PackageSource>& sources);

/// `uri` without "user:password@".
std::string strip_userinfo(std::string_view uri);

}  // namespace agentvm
