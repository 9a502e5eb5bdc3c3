#pragma once
// Users of the guest, read from its own /etc/passwd and /etc/group: a static program has no NSS.

#include <filesystem>
#include <string>
#include <vector>

#include <sys/types.h>

namespace agentvm::guest::agent {

struct Account {
  std::string name, home, shell;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  ///< primary first, then supplementary
};

/// Throws `not_found` naming the user. `root` is the guest's root folder.
Account find_account(const std::filesystem::path& root, const std::string& user);

}  // namespace agentvm::guest::agent
