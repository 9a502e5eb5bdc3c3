#pragma once
// Names that a file system takes for one that git reads. Pure; takes any bytes.

#include <string_view>

namespace agentvm::git {

/// True when a file system that folds case, ignores characters (HFS+) or has short names and streams (NTFS) takes
/// `name` for ".git".
bool is_dotgit(std::string_view name);
/// The same for ".gitmodules".
bool is_dotgitmodules(std::string_view name);
/// The same for ".gitattributes".
bool is_dotgitattributes(std::string_view name);

}  // namespace agentvm::git
