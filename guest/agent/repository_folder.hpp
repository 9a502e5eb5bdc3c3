#pragma once
// What those who look into a repository of the guest share.
#include <string>

#include <fcntl.h>

#include "vmm/base/fd.hpp"

namespace agentvm::guest::agent {

/// Folders below refs/ that are followed: git's own names have a few, and somebody's loop of folders has no end.
inline constexpr unsigned reference_depth_limit = 16;

/// A folder, never what a link of that name leads to; empty where it is none or cannot be opened.
inline UniqueFd open_folder(int parent, const std::string& name) {
  return UniqueFd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
}

}  // namespace agentvm::guest::agent
