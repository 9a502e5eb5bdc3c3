#pragma once
// Looks at a folder that a guest wrote: every name below it, without following or opening anything but folders.

#include <cstdint>
#include <functional>
#include <string>

#include <sys/types.h>

#include "vmm/base/clock.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {

struct SurveyEntry {
  std::string path;  ///< below the root, '/' between parts; any bytes but NUL
  std::string_view name() const { return std::string_view(path).substr(path.rfind('/') + 1); }
  mode_t mode = 0;
};

struct SurveyCount {
  std::uint64_t entries = 0;
  std::uint64_t closed_folders = 0;  ///< could not be opened or whose path is too long: what is in them is not seen
};

/// Calls `visit` for everything below `top` (a path below `root`; "" = all of it). Folders come before what is in them;
/// one for which `visit` returns false is not entered. Symbolic links are entries, never followed, on the way to `top`
/// neither; other file systems are not entered. A `top` that is missing or no folder: nothing is visited. Throws
/// `operation_failed` beyond `limit_entries`, `timed_out`.
SurveyCount survey(int root, const std::string& top, std::uint64_t limit_entries, Deadline deadline,
                   const std::function<bool(const SurveyEntry&)>& visit);

/// Whether the host would take this entry back, by the rule for received trees: no name that some file system reads as
/// '.git', no device, no '.gitmodules' that is a link.
bool can_come_home(const SurveyEntry& entry);

}  // namespace agentvm::sync
