#pragma once
// What a git object must look like before it may enter the host's repository. Pure; takes any bytes. The rules are
// those of `git fsck --strict`, and stricter where the host's file systems or readers could be fooled.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::git {

/// Why the object is refused ("has a bad author line: no time zone"), for people; nothing when it is sound. Trees are
/// judged in tree.hpp.
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

}  // namespace agentvm::git
