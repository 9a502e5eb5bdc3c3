#pragma once
// One fetch from start to verdict, inside the child.

#include "sync/verdict.hpp"

namespace agentvm::git {

/// Starts libgit2 without any configuration file of the host; its caches small.
void start_library();

/// Runs the fetch over `in` and `out`, in the quarantine that is the working directory. Throws what is to become a
/// refusal.
sync::FetchVerdict fetch(const sync::FetchRequest& request, int in, int out);

}  // namespace agentvm::git
