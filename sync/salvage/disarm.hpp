#pragma once
#include <string>
#include <vector>

#include "vmm/base/files.hpp"

namespace agentvm::sync {

/// Whether git takes a file or folder of that name for the repository of the folder it is in: ".git", in whatever case.
bool names_a_repository(const std::string& name);

/// Makes sure that no git takes anything below `folder` for a repository: the configuration of one names programs to
/// run (core.fsmonitor, core.sshCommand, filters, hooks), and a shell's prompt is enough to start git there. What git
/// knows one by gets another name: a file or link ".git" (gitrepository-layout(5)), and the HEAD beside `objects`,
/// `commondir`, in whatever case. Follows no link; `folder` is not written meanwhile. Returns what was
/// renamed, below `folder`: the guest's bytes. Throws `operation_failed`.
std::vector<std::string> disarm_repositories(const fs::path& folder);

}  // namespace agentvm::sync
