#pragma once
// What a git object must look like before it may enter the host's repository. Pure; takes any bytes. The rules are
// those of `git fsck --strict`, and stricter where the host's file systems or readers could be fooled.

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::git {

struct TreeEntry {
  unsigned mode = 0;         ///< 0100644, 0100755, 0120000, 040000 or 0160000
  std::string_view name;     ///< points into the tree
  std::string_view raw_oid;  ///< 20 bytes, points into the tree
  bool is_tree() const { return mode == 040000; }
  bool is_submodule() const { return mode == 0160000; }
  bool is_symlink() const { return mode == 0120000; }
};

/// Splits a tree; nothing when it is cut short or a mode is not octal. Looks at the framing only: `tree_problem`
/// judges.
std::optional<std::vector<TreeEntry>> parse_tree(std::string_view tree);

/// Why the object is refused ("has an entry named '.git'"), for people; nothing when it is sound.
std::optional<std::string> tree_problem(std::string_view tree);
std::optional<std::string> commit_problem(std::string_view commit);
std::optional<std::string> tag_problem(std::string_view tag);
/// The content of a file called .gitmodules.
std::optional<std::string> gitmodules_problem(std::string_view content);
/// The content of a file called .gitattributes: lines and sizes that have overflown readers (CVE-2022-23521).
std::optional<std::string> gitattributes_problem(std::string_view content);

/// The ids a commit names. Precondition: `commit_problem` found nothing.
struct CommitLinks {
  std::string tree;
  std::vector<std::string> parents;
};
CommitLinks commit_links(std::string_view commit);
struct TagLink {
  std::string object, type;
};
/// What a tag names. Precondition: `tag_problem` found nothing.
TagLink tag_link(std::string_view tag);

/// True when a file system that folds case, ignores characters (HFS+) or has short names and streams (NTFS) takes
/// `name` for ".git".
bool is_dotgit(std::string_view name);
/// The same for ".gitmodules".
bool is_dotgitmodules(std::string_view name);
/// The same for ".gitattributes".
bool is_dotgitattributes(std::string_view name);

}  // namespace agentvm::git
