#pragma once
// One fetch from start to verdict, inside the child.

#include "sync/verdict.hpp"

namespace agentvm::git {

/// Starts libgit2 without any configuration file of the host; its caches small, its large blocks in files of the
/// quarantine (the working directory), up to four times `limits.memory`.
void start_library(const sync::SyncLimits& limits);

/// Runs the fetch over `in` and `out`, in the quarantine that is the working directory. Throws what is to become a
/// refusal; whatever goes wrong once memory has run out is told as that.
sync::FetchVerdict fetch(const sync::FetchRequest& request, int in, int out);

}  // namespace agentvm::git
