#pragma once
// A tree object, entry by entry. Pure; takes any bytes. Linear in them, all but a look for names that are there twice.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::git {

struct TreeEntry {
  unsigned mode = 0;         ///< 0100644, 0100755, 0120000, 040000 or 0160000
  std::string_view name;     ///< points into the tree
  std::string_view raw_oid;  ///< 20 bytes, points into the tree
  std::string_view record;   ///< all of the entry as the tree has it: mode, name, id
  bool is_tree() const { return mode == 040000; }
  bool is_submodule() const { return mode == 0160000; }
  bool is_symlink() const { return mode == 0120000; }
};

/// Splits a tree; nothing when it is cut short or a mode is not octal. Looks at the framing only: `tree_problem`
/// judges.
std::optional<std::vector<TreeEntry>> parse_tree(std::string_view tree);

/// Those of `entries` that `known` has not, byte for byte. Takes both for ordered as git orders them: where they are
/// not, more are returned, never fewer.
std::vector<TreeEntry> entries_besides(std::span<const TreeEntry> known, std::span<const TreeEntry> entries);

/// The entry of that name that is a folder where `like` is one, or none; none, too, where `entries` are out of order.
const TreeEntry* find_entry(std::span<const TreeEntry> entries, const TreeEntry& like);

inline constexpr const char* malformed_tree = "is not a well-formed tree";

/// Why the tree is refused ("has an entry named '.git'"), for people; nothing when it is sound. The rules are those of
/// `git fsck --strict`, and stricter where the host's file systems or readers could be fooled.
std::optional<std::string> tree_problem(std::string_view tree);
/// The same where some of the entries stood in a tree that was sound: `unjudged` are the others.
std::optional<std::string> tree_problem(std::span<const TreeEntry> entries, std::span<const TreeEntry> unjudged);

}  // namespace agentvm::git
