#include "sync/git/lookalikes.hpp"

#include <algorithm>
#include <cstdint>

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

/// How many bytes the character at the start of `text` has; 0 where git calls it malformed.
std::size_t utf8_length(std::string_view text) {
  const auto at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto lead = at(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((at(i) & 0xC0) != 0x80) return 0;
  const bool overlong = (lead == 0xE0 && at(1) < 0xA0) || (lead == 0xF0 && at(1) < 0x90);
  const bool surrogate = lead == 0xED && at(1) > 0x9F, beyond = lead == 0xF4 && at(1) > 0x8F;
  const bool no_character = lead == 0xEF && at(1) == 0xBF && (at(2) & 0xFE) == 0xBE;
  return overlong || surrogate || beyond || no_character ? 0 : length;
}

/// `name` without what HFS+ ignores, in lower case as far as ASCII goes; it ends before a malformed character, as it
/// does for git. All ignored characters are three bytes long in UTF-8.
std::string hfs_fold(std::string_view name) {
  std::string result;
  while (!name.empty()) {
    const auto length = utf8_length(name);
    if (length == 0) break;
    const auto bits = [name](std::size_t i) { return static_cast<std::uint32_t>(name[i] & 0x3F); };
    if (length != 3 || !hfs_ignores(static_cast<std::uint32_t>(name[0] & 0x0F) << 12 | bits(1) << 6 | bits(2)))
      for (const char c : name.substr(0, length)) result += lower(c);
    name.remove_prefix(length);
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

/// Whether the name can be taken for one of git's at all; nearly none can, and all are asked about three times.
bool may_be_taken_for_another(std::string_view name) {
  if (name.starts_with('.') || name.starts_with('g') || name.starts_with('G')) return true;
  return std::any_of(name.begin(), name.end(),
                     [](char c) { return c == '\\' || static_cast<unsigned char>(c) >= 0x80; });
}

}  // namespace

bool is_dotgit(std::string_view name) {
  if (!may_be_taken_for_another(name)) return false;
  if (hfs_fold(name) == ".git") return true;
  return any_part(name, [](std::string_view part) {
    return (starts_folded(part, ".git") && ntfs_tail_is_void(part.substr(4))) ||
           (starts_folded(part, "git~1") && ntfs_tail_is_void(part.substr(5)));
  });
}

bool is_dotgitmodules(std::string_view name) {
  if (!may_be_taken_for_another(name)) return false;
  if (hfs_fold(name) == ".gitmodules") return true;
  return any_part(name, [](std::string_view part) { return ntfs_names(part, ".gitmodules", "gitmod", "gi7eba"); });
}

bool is_dotgitattributes(std::string_view name) {
  if (!may_be_taken_for_another(name)) return false;
  if (hfs_fold(name) == ".gitattributes") return true;
  return any_part(name, [](std::string_view part) { return ntfs_names(part, ".gitattributes", "gitatt", "gi7d29"); });
}

}  // namespace agentvm::git
