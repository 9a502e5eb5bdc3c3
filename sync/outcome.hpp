#pragma once
// What a sync did, as a value, as JSON (agentvm.sync/1) and as text.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sync/land.hpp"
#include "sync/plan.hpp"

namespace agentvm::sync {

enum class Result { updated, up_to_date, gated, diverged, conflict, dirty };
std::string_view to_string(Result result);

struct GatedPath {
  std::string path, kind, excerpt;
};
struct CommitLine {
  std::string id, subject;  ///< abbreviated id; the guest's text as it is: cleaned where it is shown
};

/// The user's own commits on their way into the sandbox's clone.
struct Pushed {
  std::string branch, old_tip, new_tip;  ///< `old_tip` empty: the sandbox did not have the branch
  std::uint64_t commits = 0;
  bool done = false;    ///< the sandbox has them
  std::string refusal;  ///< why not, guest text; empty in a dry run
};

/// How the sandbox stands to a branch of the user's.
enum class Standing {
  missing,    ///< it never had one of that name
  removed,    ///< it had one, and has it no more
  behind,     ///< it lacks commits, and has none of its own
  diverged,   ///< both have commits of their own
  different,  ///< the tips differ; how was not asked
};
std::string_view to_string(Standing standing);

/// A branch of the user's that the sandbox lacks something of, and that this sync did not send.
struct ApartBranch {
  std::string branch;
  Standing standing = Standing::missing;
  std::string tip, guest_tip;
  std::uint64_t commits = 0;                          ///< the user's alone, where that was counted
  std::optional<std::vector<std::string>> conflicts;  ///< of diverged ones: what a merge would meet, where it was tried
};

struct SyncOutcome {
  std::string sandbox;
  Result result = Result::up_to_date;
  bool dry_run = false;
  bool moved = false;  ///< the user's branch and work tree moved
  std::string branch;  ///< the branch this is about; may be empty
  std::string old_tip,
      new_tip;  ///< the user's branch (or the mirror, when it is another branch) before, and the guest's tip
  std::uint64_t commits = 0, files_changed = 0, insertions = 0, deletions = 0;
  std::vector<CommitLine> log;  ///< newest first, at most 20
  std::vector<RefChange> refs;
  std::vector<RejectedRef> rejected;
  std::vector<std::string> gone;  ///< branches that the guest no longer has; their references stay
  std::vector<GatedPath> gated;   ///< what would run or steer something on the host: the first of them, guest text
  std::uint64_t gated_count = 0;
  std::vector<std::string> conflicts;    ///< files in the way, or that a merge would conflict in
  std::vector<std::string> rescued;      ///< references with rescued work
  std::string switched_from;             ///< the branch that was checked out before, when the user's work tree followed
  std::optional<Pushed> pushed;          ///< where the user's branch was ahead of the sandbox's
  std::vector<ApartBranch> apart;        ///< the user's other branches, where the sandbox lacks something of them
  std::string reason;                    ///< why nothing moved, for people
  std::vector<std::string> commands;     ///< what helps
  std::uint64_t objects = 0, bytes = 0;  ///< received

  /// 0 for updated and up-to-date, else 6.
  int exit_code() const;
};

Json to_json(const SyncOutcome& outcome);
/// [{path, kind, excerpt}], cleaned.
Json gated_json(const std::vector<GatedPath>& gated);
/// For people, several lines, every guest text cleaned; ends in a newline.
std::string to_text(const SyncOutcome& outcome);

}  // namespace agentvm::sync
