#pragma once
// What one guest may take of its host besides the sizes in its definition.
//
// Job: the priority of its processes, a scope of systemd's for them where a user manager answers, and how much room is
// left where its files are. Not its job: deciding what follows (`cli/manager/ops/disk_guard.hpp`). Threads: any.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "vmm/base/clock.hpp"
#include "vmm/base/sizes.hpp"

namespace agentvm {

/// The nice value of what runs a guest: whatever its CPUs do, the user's own programs come first (sched(7)).
inline constexpr int guest_nice = 5;
/// Added to the badness of what runs a guest (proc(5), oom_score_adj): a host out of memory ends a guest, which is told
/// as a crash, rather than an editor.
inline constexpr int guest_oom_score_adj = 300;

/// Gives a process of ours, all its threads and those that they start later `guest_nice` and `guest_oom_score_adj`.
/// What the kernel refuses or lacks is left as it is: returns whether both are in force for the process.
bool yield_to_host(int pid);

struct ScopeLimits {
  ByteSize memory;           ///< MemoryMax
  unsigned tasks = 1024;     ///< TasksMax: QEMU's and virtiofsd's threads, a few dozen, many times over
  unsigned cpu_weight = 50;  ///< CPUWeight: half of what other programs have (systemd.resource-control(5))
};

/// A scope of the user's systemd.
struct UserScope {
  std::string unit;     ///< empty: there is none
  std::string why_not;  ///< then, in a few words
};

/// Whether transient scopes can be had, without making one: `why_not` is empty then.
UserScope find_user_scope(Deadline deadline);

/// Moves `main` into a new scope named `unit`.scope with these limits, and `others` as well where systemd lets us (it
/// does not move a process with a user id of its own). Never throws: a host without is common.
UserScope enter_user_scope(const std::string& unit, int main, std::span<const int> others, const ScopeLimits& limits,
                           Deadline deadline);

/// Room on the file system of a path. Where it counts no inodes, those are the largest number.
struct DiskRoom {
  std::uint64_t bytes = 0, bytes_total = 0;
  std::uint64_t inodes = 0, inodes_total = 0;
};
/// Throws `operation_failed` when the path is missing.
DiskRoom disk_room(const std::filesystem::path& path);

}  // namespace agentvm
