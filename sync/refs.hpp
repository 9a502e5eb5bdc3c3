#pragma once
// Names of references: git's rules, and how a guest's branch becomes one of ours. Pure.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::sync {

inline constexpr std::string_view branch_prefix = "refs/heads/";
inline constexpr std::string_view tag_prefix = "refs/tags/";
inline constexpr std::string_view own_prefix = "refs/agentvm/";
inline constexpr std::string_view mirrored_tag_prefix = "tags/";  ///< behind refs/agentvm/<sandbox>/
inline constexpr std::size_t oid_hex_length = 40;

/// 40 lower-case hex digits.
bool is_oid(std::string_view text);

/// Why `name` (a full name: "refs/heads/x") is not an acceptable reference; nothing when it is. Git's own rules, and on
/// top: UTF-8 only, nothing that hides or reorders text (what a name looks like is what it is), at most 512 bytes, no
/// component over 200 bytes (a lock file's name must fit), no component that starts with '-'.
std::optional<std::string> refname_problem(std::string_view name);

/// Names below refs/agentvm/<sandbox>/ that are ours: "wip", "old", "tags".
bool is_reserved_branch(std::string_view branch);

/// Our reference for a guest branch: refs/agentvm/<sandbox>/<branch>.
std::string mirror_ref(std::string_view sandbox, std::string_view branch);
/// Where the old tip of a rewritten branch is kept: refs/agentvm/<sandbox>/old/<stamp>/<branch>.
std::string old_ref(std::string_view sandbox, std::string_view stamp, std::string_view branch);
/// "20260131T080910Z", from unix seconds: times as they stand in reference names.
std::string ref_stamp(std::int64_t unix_seconds);

struct AdvertisedRef {
  std::string name;  ///< as the guest sent it: hostile
  std::string oid;
};
struct RejectedRef {
  std::string name;  ///< hostile: clean before showing
  std::string reason;
};
struct BranchSelection {
  std::map<std::string, std::string> branches;  ///< branch (without refs/heads/) -> tip
  std::map<std::string, std::string> tags;      ///< tag (without refs/tags/) -> commit or tag object
  std::vector<RejectedRef> rejected;
};

/// Picks the guest's branches and tags out of what it advertises: others (HEAD, notes, ...) are passed over, bad names,
/// reserved names, repeated names and names that cannot exist beside another (a and a/b) are rejected with the reason;
/// the rest goes on.
BranchSelection select_branches(const std::vector<AdvertisedRef>& advertised);

}  // namespace agentvm::sync
