#include "sync/git/object_rules.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sync/refs.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::git {
namespace {

using Problem = std::optional<std::string>;

/// Reads `text` line by line. A header ends at the first empty line.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : rest_(text) {}
  /// The value of the next line when it has this key.
  std::optional<std::string_view> take(std::string_view key) {
    if (!rest_.starts_with(key) || rest_.size() <= key.size() || rest_[key.size()] != ' ') return std::nullopt;
    const auto end = rest_.find('\n');
    if (end == std::string_view::npos) return std::nullopt;
    const auto value = rest_.substr(key.size() + 1, end - key.size() - 1);
    rest_.remove_prefix(end + 1);
    return value;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

/// The header must end, by an empty line or the object's end after a newline, and hold no NUL.
Problem header_problem(std::string_view object) {
  const auto end = object.find("\n\n");
  const auto header = object.substr(0, end);
  if (header.find('\0') != std::string_view::npos) return "has a NUL byte in its header";
  if (end == std::string_view::npos && !object.ends_with('\n')) return "has a header without an end";
  return std::nullopt;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// "Name <mail> 1700000000 +0100"
Problem ident_problem(std::string_view ident, std::string_view who) {
  const auto bad = [who](std::string_view what) { return Problem(fmt::format("has a bad {} line: {}", who, what)); };
  const auto open = ident.find_first_of("<>");
  if (open == std::string_view::npos || ident[open] == '>') return bad("no e-mail address");
  if (open == 0) return bad("no name before the e-mail address");
  if (ident[open - 1] != ' ') return bad("no space before the e-mail address");
  const auto close = ident.find_first_of("<>", open + 1);
  if (close == std::string_view::npos || ident[close] == '<') return bad("a broken e-mail address");
  auto date = ident.substr(close + 1);
  if (!date.starts_with(' ')) return bad("no space before the date");
  date.remove_prefix(1);
  const auto space = date.find(' ');
  if (space == std::string_view::npos) return bad("no time zone");
  const auto seconds = date.substr(0, space), zone = date.substr(space + 1);
  if (!all_digits(seconds)) return bad("a date that is no number");
  if (seconds.size() > 1 && seconds[0] == '0') return bad("a date padded with zeros");
  if (seconds.size() > 18) return bad("a date out of range");
  if (zone.size() != 5 || (zone[0] != '+' && zone[0] != '-') || !all_digits(zone.substr(1)))
    return bad("a broken time zone");
  return std::nullopt;
}

}  // namespace

Problem commit_problem(std::string_view commit) {
  if (auto problem = header_problem(commit)) return problem;
  HeaderReader header(commit);
  const auto tree = header.take("tree");
  if (!tree || !sync::is_oid(*tree)) return "has no valid tree line";
  while (const auto parent = header.take("parent"))
    if (!sync::is_oid(*parent)) return "has a bad parent line";
  const auto author = header.take("author");
  if (!author) return "has no author line";
  if (auto problem = ident_problem(*author, "author")) return problem;
  if (header.rest().starts_with("author ")) return "has more than one author line";
  const auto committer = header.take("committer");
  if (!committer) return "has no committer line";
  if (auto problem = ident_problem(*committer, "committer")) return problem;
  if (commit.find('\0') != std::string_view::npos) return "has a NUL byte in its message";
  return std::nullopt;
}

Problem tag_problem(std::string_view tag) {
  if (auto problem = header_problem(tag)) return problem;
  HeaderReader header(tag);
  const auto object = header.take("object");
  if (!object || !sync::is_oid(*object)) return "has no valid object line";
  const auto type = header.take("type");
  if (!type || (*type != "commit" && *type != "tree" && *type != "blob" && *type != "tag"))
    return "has no valid type line";
  const auto name = header.take("tag");
  if (!name || sync::refname_problem("refs/tags/" + std::string(*name))) return "has no valid name";
  const auto tagger = header.take("tagger");
  if (!tagger) return "has no tagger line";
  return ident_problem(*tagger, "tagger");
}

Problem gitattributes_problem(std::string_view content) {
  constexpr std::size_t line_limit_bytes = 2048;  // git fsck's
  while (!content.empty()) {
    const auto end = std::min(content.find('\n'), content.size());
    if (end >= line_limit_bytes) return "is a .gitattributes file with a line longer than 2048 bytes";
    content.remove_prefix(std::min(end + 1, content.size()));
  }
  return std::nullopt;
}

CommitLinks commit_links(std::string_view commit) {
  HeaderReader header(commit);
  CommitLinks links;
  if (const auto tree = header.take("tree")) links.tree = *tree;
  while (const auto parent = header.take("parent")) links.parents.emplace_back(*parent);
  return links;
}

TagLink tag_link(std::string_view tag) {
  HeaderReader header(tag);
  TagLink link;
  if (const auto object = header.take("object")) link.object = *object;
  if (const auto type = header.take("type")) link.type = *type;
  return link;
}

}  // namespace agentvm::git
