#pragma once
// libgit2's handles, owned, and its errors. The only header that shows <git2.h>; include it in sync/git/ alone.

#include <memory>
#include <string>

#include <git2.h>
#include <git2/sys/odb_backend.h>
#include <git2/sys/repository.h>

#include "vmm/base/error.hpp"
#include "vmm/base/free_with.hpp"

namespace agentvm::git {

using OdbHandle = std::unique_ptr<git_odb, FreeWith<git_odb_free>>;
using ObjectHandle = std::unique_ptr<git_odb_object, FreeWith<git_odb_object_free>>;
using RepositoryHandle = std::unique_ptr<git_repository, FreeWith<git_repository_free>>;
using RevwalkHandle = std::unique_ptr<git_revwalk, FreeWith<git_revwalk_free>>;
using IndexerHandle = std::unique_ptr<git_indexer, FreeWith<git_indexer_free>>;

/// Throws `operation_failed` with libgit2's own text when `result` is negative; else returns it.
inline int check_git(int result, const std::string& what) {
  if (result >= 0) return result;
  const git_error* last = git_error_last();
  throw Error(ErrorCode::operation_failed, what + ": " + (last && last->message ? last->message : "unknown error"));
}

inline git_oid parse_oid(const std::string& hex) {
  git_oid oid;
  check_git(git_oid_fromstrn(&oid, hex.data(), hex.size()), "object id " + hex);
  return oid;
}
inline std::string hex(const git_oid& oid) {
  char text[GIT_OID_HEXSZ + 1];
  return git_oid_tostr(text, sizeof text, &oid);
}

}  // namespace agentvm::git
