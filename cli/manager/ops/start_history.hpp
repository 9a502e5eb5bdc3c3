#pragma once
// How long starts took on this host before: what a start is compared with.

#include "vmm/base/files.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::manager {

/// Each row of `timing` (of `Timeline::to_json`) with `median_milliseconds`: of the phase in the earlier starts that
/// `file` keeps for `kind` (what starts of one kind are compared within: the accelerator); null where none had it. A
/// file that cannot be read is none.
Json with_medians(const fs::path& file, const std::string& kind, Json timing);

/// Adds a start; keeps the last 20 of each kind. Thread-safe between threads of one process: a start that came in
/// between may be lost, the file never is.
void remember_start(const fs::path& file, const std::string& kind, const Json& timing);

}  // namespace agentvm::manager
