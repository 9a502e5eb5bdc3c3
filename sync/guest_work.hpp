#pragma once
// The guest's work trees, as its own git tells of them. Everything here runs in the guest, as its agent, on its own
// repository; the host reads a few lines, strictly, and believes none of them beyond their form: a guest that lies
// gives away its own work alone.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "guest/streams.hpp"

namespace agentvm::sync {

/// At most so many work trees of one guest are looked at.
inline constexpr std::size_t worktrees_limit = 64;

struct GuestAnswer {
  int code = 0;          ///< its exit status; 128 when a signal ended it
  std::string out, err;  ///< at most 256 KiB and 16 KiB of it
};
/// Runs a program in the guest to its end. Throws `timed_out` at the deadline, `operation_failed` when the connection
/// is lost.
GuestAnswer run_in_guest(guest::Streams& streams, std::vector<std::string> argv, Deadline deadline);

struct GuestWorktree {
  std::string path;           ///< in the guest; the first one is the clone itself (/workspace)
  std::string branch;         ///< checked out; empty: detached
  std::string tip;            ///< commit; empty: unborn
  std::uint64_t pending = 0;  ///< commits of it that the host does not have
  std::uint64_t changed = 0;  ///< files with uncommitted changes, untracked ones included
};

enum class Survey {
  commits,  ///< `changed` stays 0: reads no file of a work tree
  with_changes,
};
/// Asks for the work trees of the repository at `guest_path`, the main one first. `known`: commits that the host has.
/// Throws `operation_failed` when the answer has another form.
std::vector<GuestWorktree> survey_worktrees(guest::Streams& streams, const std::string& guest_path,
                                            const std::vector<std::string>& known, Survey what, Deadline deadline);

/// One work tree's uncommitted state as an object in the guest's store.
struct GuestSnapshot {
  GuestWorktree worktree;  ///< without `pending` and `changed`
  std::size_t number = 0;  ///< its branch in the store
  std::string commit;      ///< empty: everything is committed
  std::string tree;
  bool whole = true;  ///< false: some files could not be read
};

/// Writes a commit of the uncommitted state of each work tree into a bare repository of its own at `store` in the guest
/// (removed first), as refs/heads/<number>; 0 is the clone itself. Indexes, files, references and objects of the
/// guest's repository stay as they are. The store is gone again when nothing was uncommitted.
std::vector<GuestSnapshot> snapshot_worktrees(guest::Streams& streams, const std::string& guest_path,
                                              const std::string& store, std::vector<std::string>& warnings,
                                              Deadline deadline);

// Pure, for tests and the fuzzer. Both throw `operation_failed`.
std::vector<GuestWorktree> parse_survey(std::string_view text);
std::vector<GuestSnapshot> parse_snapshots(std::string_view text);

}  // namespace agentvm::sync
