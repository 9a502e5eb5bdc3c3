// Trees: what they hold, what two of them share, and what git or a file system would stumble over.
#include "sync/git/tree.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sync/git/lookalikes.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::git {
namespace {

constexpr std::size_t raw_oid_bytes = 20;
constexpr std::size_t least_entry_bytes = 28;  ///< "40000 a", its NUL and the id
constexpr std::size_t name_limit_bytes = 255;  ///< NAME_MAX: no longer name can be checked out
using Problem = std::optional<std::string>;

std::string shown(std::string_view text) {
  return "'" + clean_guest_text(text, Newlines::escape, 300) + "'";
}

/// Git's order: a folder sorts as if its name ended in '/'.
bool sorts_before(const TreeEntry& a, const TreeEntry& b) {
  const auto common = std::min(a.name.size(), b.name.size());
  if (const int order = a.name.substr(0, common).compare(b.name.substr(0, common))) return order < 0;
  const auto next = [common](const TreeEntry& entry) {
    return common < entry.name.size() ? static_cast<unsigned char>(entry.name[common])
           : entry.is_tree()          ? static_cast<unsigned char>('/')
                                      : 0;
  };
  return next(a) < next(b);
}

Problem entry_problem(const TreeEntry& entry) {
  const auto name = entry.name;
  // A padded mode is the same number: it shows only in the text.
  if (entry.record.starts_with('0')) return "has an entry with a zero-padded mode: " + shown(name);
  if (name.empty()) return "has an entry without a name";
  if (name == "." || name == "..") return fmt::format("has an entry named '{}'", name);
  if (name.find('/') != std::string_view::npos) return "has an entry with a '/' in its name: " + shown(name);
  if (name.size() > name_limit_bytes) return "has an entry with a name longer than 255 bytes";
  if (is_dotgit(name)) return "has an entry that some file systems take for '.git': " + shown(name);
  if (entry.is_symlink() && is_dotgitmodules(name)) return "has a symbolic link for .gitmodules: " + shown(name);
  if (is_dotgitmodules(name) && (entry.is_tree() || entry.is_submodule()))
    return "has a folder or submodule for .gitmodules: " + shown(name);
  if (is_dotgitattributes(name) && (entry.is_tree() || entry.is_submodule()))
    return "has a folder or submodule for .gitattributes: " + shown(name);
  if (is_dotgitmodules(name) && name != ".gitmodules")
    return "has an entry that some file systems take for '.gitmodules': " + shown(name);
  if (std::all_of(entry.raw_oid.begin(), entry.raw_oid.end(), [](char c) { return c == 0; }))
    return "has an entry with the null object id: " + shown(name);
  switch (entry.mode) {
    case 040000:
    case 0100644:
    case 0100755:
    case 0120000:
    case 0160000:
      return std::nullopt;
    default:
      return fmt::format("has an entry with the mode {:o}: {}", entry.mode, shown(name));
  }
}

/// Whether one of `before`, which are in order, is a file where `folder` is a folder: both of one name may stand far
/// apart ("a", "a.b", "a/").
bool names_a_file(std::span<const TreeEntry> before, const TreeEntry& folder) {
  auto file = folder;
  file.mode = 0100644;
  const auto found = std::lower_bound(before.begin(), before.end(), file, sorts_before);
  return found != before.end() && found->name == folder.name;
}

}  // namespace

std::optional<std::vector<TreeEntry>> parse_tree(std::string_view tree) {
  std::vector<TreeEntry> entries;
  entries.reserve(tree.size() / (least_entry_bytes + 8));
  while (!tree.empty()) {
    TreeEntry entry;
    std::size_t i = 0;
    for (; i < tree.size() && tree[i] >= '0' && tree[i] <= '7' && i < 7; ++i)
      entry.mode = entry.mode << 3 | static_cast<unsigned>(tree[i] - '0');
    if (i == 0 || i >= tree.size() || tree[i] != ' ') return std::nullopt;
    const auto end = tree.find('\0', i + 1);
    if (end == std::string_view::npos || tree.size() - end - 1 < raw_oid_bytes) return std::nullopt;
    entry.record = tree.substr(0, end + 1 + raw_oid_bytes);
    entry.name = tree.substr(i + 1, end - i - 1);
    entry.raw_oid = tree.substr(end + 1, raw_oid_bytes);
    tree.remove_prefix(entry.record.size());
    entries.push_back(entry);
  }
  return entries;
}

std::vector<TreeEntry> entries_besides(std::span<const TreeEntry> known, std::span<const TreeEntry> entries) {
  std::vector<TreeEntry> others;
  auto beside = known.begin();
  const auto takes = [&](const TreeEntry& entry) {
    if (beside == known.end() || beside->record != entry.record) return false;
    ++beside;
    return true;
  };
  for (const auto& entry : entries) {
    if (takes(entry)) continue;
    while (beside != known.end() && sorts_before(*beside, entry)) ++beside;
    if (!takes(entry)) others.push_back(entry);
  }
  return others;
}

const TreeEntry* find_entry(std::span<const TreeEntry> entries, const TreeEntry& like) {
  const auto found = std::lower_bound(entries.begin(), entries.end(), like, sorts_before);
  return found != entries.end() && found->name == like.name && found->is_tree() == like.is_tree() ? &*found : nullptr;
}

Problem tree_problem(std::span<const TreeEntry> entries, std::span<const TreeEntry> unjudged) {
  for (const auto& entry : unjudged)
    if (auto problem = entry_problem(entry)) return problem;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto& entry = entries[i];
    const auto same_name = [&] { return "has two entries with the same name: " + shown(entry.name); };
    if (i > 0 && !sorts_before(entries[i - 1], entry)) {
      if (entries[i - 1].name == entry.name) return same_name();
      return "has entries out of order: " + shown(entry.name);
    }
    if (entry.is_tree() && names_a_file(entries.first(i), entry)) return same_name();
  }
  return std::nullopt;
}

Problem tree_problem(std::string_view tree) {
  const auto entries = parse_tree(tree);
  return entries ? tree_problem(*entries, *entries) : malformed_tree;
}

}  // namespace agentvm::git
