#pragma once
// The host-execution gate: which incoming files would run something on the host, or steer what does. Pure.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::sync {

/// Modes of a tree's entries, as git writes them.
inline constexpr unsigned mode_link = 0120000, mode_submodule = 0160000;

/// One path that incoming commits add or change.
struct IncomingFile {
  std::string path;                          ///< from the root of the tree; the guest's bytes
  unsigned old_mode = 0;                     ///< as in a tree; 0: new
  unsigned new_mode = 0;                     ///< never 0: what only goes runs nothing
  std::string new_oid;                       ///< content, or the commit of a submodule
  std::string old_oid;                       ///< all zeros: new
  std::optional<std::string> link_target{};  ///< of a symbolic link; absent when it is too long to be one
};

/// `sync.gate`: globs over paths, as `path_matches` reads them.
struct GatePolicy {
  std::vector<std::string> allow;   ///< what may change without being asked for
  std::vector<std::string> deny;    ///< what is always asked for, whatever it is
  std::vector<std::string> always;  ///< our own files of this project (its recipe): no `allow` covers them
};

/// Why the user is asked before this enters the work tree ("editor", "ci", "executable" ...); nothing when it is plain
/// content. Names are compared without regard to case.
std::optional<std::string> gate_kind(const IncomingFile& file, const GatePolicy& policy);

/// As in .gitignore: without '/' the pattern is for the last component, and for every folder above; with one, for the
/// path from the root; `*` and `?` stop at '/', `**` does not; a '/' at the end is everything below. Time is bounded by
/// the product of both lengths.
bool path_matches(std::string_view glob, std::string_view path);

/// Whether a symbolic link at `path` with this target stays in the tree and out of .git, whatever other links of the
/// tree lead to: '..' is understood at the target's start alone.
bool link_stays_inside(std::string_view path, std::string_view target);

}  // namespace agentvm::sync
