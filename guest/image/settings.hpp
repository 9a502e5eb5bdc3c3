#pragma once
// What every guest's system gets, wherever it came from: the agent's account, and what is not started. Pure.

#include <string>
#include <vector>

namespace agentvm {

inline constexpr unsigned agent_uid = 1000, agent_gid = 1000;

/// The contents of the four files in /etc. An empty one stays so: there are systems without shadows of groups.
struct Accounts {
  std::string passwd, shadow, group, gshadow;
};

/// The user and the group `agent`, who may become root. Who had the name or the ids before is taken out: the names of
/// those users.
std::vector<std::string> add_agent_account(Accounts& accounts, const std::string& shell);

/// Puts the agent into a group, in the text of /etc/group or /etc/gshadow; one that is not there changes nothing.
std::string join_group(const std::string& text, const std::string& group);

/// Programs that systemd runs at every start, before anything else, to find disks and consoles that this machine does
/// not have.
inline constexpr const char* idle_generators[] = {"cryptsetup",     "debug",    "getty", "gpt-auto", "hibernate-resume",
                                                  "integritysetup", "rc-local", "run",   "ssh",      "system-update",
                                                  "veritysetup"};

}  // namespace agentvm
