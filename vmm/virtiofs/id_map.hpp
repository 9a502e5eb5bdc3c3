#pragma once
// Which host user each user of a guest is, on the shared folder: the map of the user namespace that virtiofsd runs in.

#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace agentvm {

/// The agent's uid and gid in every guest.
inline constexpr unsigned agent_guest_id = 1000;

/// `count` guest ids from `inside` on are the host's ids from `outside` on.
struct IdRange {
  unsigned inside = 0, outside = 0, count = 0;
  bool operator==(const IdRange&) const = default;
};

/// Never maps the host's root; guest root is always a subordinate id.
struct IdMap {
  std::vector<IdRange> uids, gids;
};

/// A range that /etc/subuid or /etc/subgid gives to a user.
struct SubordinateRange {
  unsigned first = 0, count = 0;
  bool operator==(const SubordinateRange&) const = default;
};

/// The ranges of `user` (by name or number) in the text of /etc/subuid or /etc/subgid. Lines that do not parse are
/// skipped, as newuidmap does.
std::vector<SubordinateRange> parse_subordinate_ids(std::string_view text, std::string_view user, uid_t uid);

/// The map for an unprivileged user: guest 1000 is the user, everything else a subordinate id. `ranges` must hold 1001
/// ids at least (one range); throws `host_lacks` with the usermod command otherwise. `option` is its "--add-subuids" or
/// "--add-subgids".
std::vector<IdRange> user_ranges(const std::vector<SubordinateRange>& ranges, unsigned own_id, std::string_view user,
                                 std::string_view option);
/// The map for root: guest N is `first` + N.
std::vector<IdRange> shifted_ranges(unsigned first);

/// This process's map. Root: its own range of /etc/subuid where it has one, else ids from 100000 on. Others: their
/// ranges there, which newuidmap must be installed to use. Throws `host_lacks` naming the remedy.
IdMap host_id_map();

/// Who the workspace's files must belong to on the host, so that they are the agent's in the guest.
struct WorkspaceOwner {
  uid_t uid = 0;
  gid_t gid = 0;
};
WorkspaceOwner workspace_owner(const IdMap& map);
/// Of `host_id_map()`.
WorkspaceOwner workspace_owner();

}  // namespace agentvm
