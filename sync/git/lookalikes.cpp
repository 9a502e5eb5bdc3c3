// Names that some file system takes for another one.
#include <algorithm>
#include <cstdint>

#include "sync/git/object_rules.hpp"

namespace agentvm::git {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool equals_folded(std::string_view text, std::string_view lower_case) {
  return std::equal(text.begin(), text.end(), lower_case.begin(), lower_case.end(),
                    [](char a, char b) { return lower(a) == b; });
}
bool starts_folded(std::string_view text, std::string_view lower_case) {
  return text.size() >= lower_case.size() && equals_folded(text.substr(0, lower_case.size()), lower_case);
}

/// Characters that HFS+ ignores when it compares names.
bool hfs_ignores(std::uint32_t point) {
  return (point >= 0x200C && point <= 0x200F) || (point >= 0x202A && point <= 0x202E) ||
         (point >= 0x206A && point <= 0x206F) || point == 0xFEFF;
}

/// `name` without what HFS+ ignores, in lower case as far as ASCII goes. All ignored characters are three bytes long in
/// UTF-8.
std::string hfs_fold(std::string_view name) {
  std::string result;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (static_cast<unsigned char>(name[i]) >= 0xE0 && static_cast<unsigned char>(name[i]) < 0xF0 &&
        i + 2 < name.size()) {
      const auto point =
          static_cast<std::uint32_t>((name[i] & 0x0F) << 12 | (name[i + 1] & 0x3F) << 6 | (name[i + 2] & 0x3F));
      if (hfs_ignores(point)) {
        i += 2;
        continue;
      }
    }
    result += lower(name[i]);
  }
  return result;
}

/// NTFS drops trailing spaces and dots, and everything from ':' on names a stream of the file before it.
bool ntfs_tail_is_void(std::string_view tail) {
  for (const char c : tail) {
    if (c == ':' || c == '\\') return true;
    if (c != ' ' && c != '.') return false;
  }
  return true;
}

bool ntfs_names(std::string_view name, std::string_view full, std::string_view short_stem,
                std::string_view hashed_stem) {
  if (starts_folded(name, full) && ntfs_tail_is_void(name.substr(full.size()))) return true;
  // "gitmod~1" to "gitmod~4": the short name of the first files with that beginning.
  if (starts_folded(name, short_stem) && name.size() > short_stem.size() + 1 && name[short_stem.size()] == '~' &&
      name[short_stem.size() + 1] >= '1' && name[short_stem.size() + 1] <= '4' &&
      ntfs_tail_is_void(name.substr(short_stem.size() + 2)))
    return true;
  // "gi7eba~1": later ones carry a hash, of which a part may be cut off by more digits: as many characters as fit in
  // eight.
  if (hashed_stem.empty() || name.size() < 8) return false;
  std::size_t i = 0;
  while (i < 6 && i < hashed_stem.size() && lower(name[i]) == hashed_stem[i]) ++i;
  if (i < 2 || name[i] != '~') return false;
  if (name[i + 1] < '1' || name[i + 1] > '9') return false;
  for (std::size_t k = i + 2; k < 8; ++k)
    if (name[k] < '0' || name[k] > '9') return false;
  return ntfs_tail_is_void(name.substr(8));
}

/// `test` on the name, and on every part after a backslash, which Windows takes for a separator.
template <class Test>
bool any_part(std::string_view name, Test test) {
  for (;;) {
    if (test(name)) return true;
    const auto slash = name.find('\\');
    if (slash == std::string_view::npos) return false;
    name.remove_prefix(slash + 1);
  }
}

}  // namespace

bool is_dotgit(std::string_view name) {
  if (hfs_fold(name) == ".git") return true;
  return any_part(name, [](std::string_view part) {
    return (starts_folded(part, ".git") && ntfs_tail_is_void(part.substr(4))) ||
           (starts_folded(part, "git~1") && ntfs_tail_is_void(part.substr(5)));
  });
}

bool is_dotgitmodules(std::string_view name) {
  if (hfs_fold(name) == ".gitmodules") return true;
  return any_part(name, [](std::string_view part) { return ntfs_names(part, ".gitmodules", "gitmod", "gi7eba"); });
}

bool is_dotgitattributes(std::string_view name) {
  if (hfs_fold(name) == ".gitattributes") return true;
  return any_part(name, [](std::string_view part) { return ntfs_names(part, ".gitattributes", "gitatt", "gi7d29"); });
}

}  // namespace agentvm::git
