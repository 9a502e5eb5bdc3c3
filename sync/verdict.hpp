#pragma once
// What the trusted side and the `agentvm-git` child say to each other: a request file in the quarantine, and one JSON
// verdict on fd 3.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sync/limits.hpp"
#include "sync/refs.hpp"

namespace agentvm::sync {

/// Names inside a quarantine folder.
inline constexpr const char* request_file = "request.json";
inline constexpr const char* haves_file =
    "haves";  ///< one commit id per line: what the host has, this sandbox's own tips first
inline constexpr const char* tags_file =
    "tags";  ///< "<object id> <tag>" per line: what the host has under that very name and need not come
inline constexpr const char* objects_dir =
    "objects";  ///< the object store that receives the pack; its alternates are the host's
inline constexpr int verdict_fd = 3;
inline constexpr int pack_fd = 4;  ///< of a push: the pack to send

struct FetchRequest {
  SyncLimits limits;
  std::vector<std::string>
      object_dirs;         ///< the host's object stores (alternates included): the only other thing the child may read
  bool list_only = false;  ///< only the advertisement: names are checked, nothing is fetched
  bool loose = false;      ///< the other side is a `LooseRelay`: objects come one by one, or it fails
  bool tags = true;        ///< else they are passed over
  bool detached_head = false;       ///< a HEAD that is on no acceptable branch is fetched and judged as if it were one
  std::size_t preferred_haves = 0;  ///< so many first lines of the haves file are offered before anything else
};
Json to_json(const FetchRequest& request);
FetchRequest request_from_json(const Json& json);

/// The child's word. The child reads hostile bytes, so the trusted side checks every field again before it uses it.
struct FetchVerdict {
  std::map<std::string, std::string> branches;  ///< branch -> tip: format, names and connectivity proven
  std::map<std::string, std::string> tags;      ///< tag -> object: those that the host does not have; proven as well
  std::vector<RejectedRef> rejected;
  std::string head_branch;    ///< the guest's checked-out branch; empty when detached or unknown
  std::string detached_head;  ///< the commit it stands on instead, where that was asked for; proven as a branch is
  std::string pack;           ///< 40 hex digits of pack-<pack>.pack; empty when nothing was new
  std::uint64_t objects = 0;  ///< new objects in it
  std::uint64_t bytes = 0;    ///< bytes received
};
Json to_json(const FetchVerdict& verdict);
/// Throws `operation_failed` when a field does not have the shape it must have.
FetchVerdict verdict_from_json(const Json& json);

/// A verdict that refuses everything.
Json refusal_to_json(const Error& error);
/// Throws the refusal that a verdict is; another one is left alone.
void throw_refusal(const Json& json);

/// What the child is to send into the guest's clone: one branch from one commit to a later one, never by force; with an
/// empty `old_tip` one that the guest must not have.
struct PushRequest {
  std::string branch, old_tip, new_tip;
  SyncLimits limits;
};
Json to_json(const PushRequest& request);
PushRequest push_request_from_json(const Json& json);

struct PushAnswer {
  bool done = false;
  std::string refusal;  ///< the guest's words, cleaned
};
Json to_json(const PushAnswer& answer);
PushAnswer push_answer_from_json(const Json& json);

}  // namespace agentvm::sync
