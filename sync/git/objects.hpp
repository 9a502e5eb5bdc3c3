#pragma once
// Reading objects through libgit2, and collections of their ids.

#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "sync/git/handles.hpp"
#include "sync/git/tree.hpp"
#include "vmm/base/clock.hpp"

namespace agentvm::git {

inline constexpr std::size_t structure_limit_bytes = 64u
                                                     << 20;  ///< a commit, tag or tree: held in memory while it is read

struct OidHash {
  std::size_t operator()(const git_oid& oid) const {
    std::size_t value;
    std::memcpy(&value, oid.id, sizeof value);
    return value;
  }
};
struct OidEqual {
  bool operator()(const git_oid& a, const git_oid& b) const { return git_oid_equal(&a, &b); }
};
template <class Value>
using OidMap = std::unordered_map<git_oid, Value, OidHash, OidEqual>;
using OidSet = std::unordered_set<git_oid, OidHash, OidEqual>;

inline void check_time(Deadline deadline) {
  if (deadline.expired())
    throw Error(ErrorCode::timed_out, "checking what the guest sent took too long (sync.limits.seconds)");
}

inline ObjectHandle read_object(git_odb* odb, const git_oid& oid) {
  git_odb_object* raw = nullptr;
  if (const int result = git_odb_read(&raw, odb, &oid); result < 0) check_git(result, "reading object " + hex(oid));
  return ObjectHandle(raw);
}

struct ObjectHeader {
  std::size_t size = 0;
  git_object_t type = GIT_OBJECT_INVALID;
};

/// Nothing where there is no such object, or none that can be read.
inline std::optional<ObjectHeader> find_header(git_odb* odb, const git_oid& oid) {
  ObjectHeader header;
  if (git_odb_read_header(&header.size, &header.type, odb, &oid) < 0) return std::nullopt;
  return header;
}

inline ObjectHeader read_header(git_odb* odb, const git_oid& oid) {
  const auto header = find_header(odb, oid);
  if (!header) check_git(GIT_ERROR, "reading object " + hex(oid));
  return *header;
}

inline std::string_view content(const ObjectHandle& object) {
  return {static_cast<const char*>(git_odb_object_data(object.get())), git_odb_object_size(object.get())};
}

inline git_oid raw_oid(std::string_view bytes) {
  git_oid oid;
  git_oid_fromraw(&oid, reinterpret_cast<const unsigned char*>(bytes.data()));
  return oid;
}

/// A tree with its entries, which point into it.
struct ParsedTree {
  ObjectHandle object;
  std::vector<TreeEntry> entries;
};

}  // namespace agentvm::git
