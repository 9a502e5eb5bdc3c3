#pragma once
// Programs inside the user namespace that gives the workspace's files their owners.

#include <filesystem>
#include <functional>
#include <memory>

#include "vmm/base/clock.hpp"
#include "vmm/base/process.hpp"
#include "vmm/virtiofs/id_map.hpp"

namespace agentvm {

/// Makes a `ProcessSpec` enter a new user and mount namespace with `map`, as the namespace's root, before it executes
/// its program. One per process. Use: prepare, spawn, finish.
class NamespaceEntry {
 public:
  /// The map must be in force by `deadline`.
  NamespaceEntry(IdMap map, Deadline deadline);
  ~NamespaceEntry();
  NamespaceEntry(const NamespaceEntry&) = delete;
  NamespaceEntry& operator=(const NamespaceEntry&) = delete;

  /// Adds what the child needs to `spec`, whose own `in_child` then runs first, outside. `inside` runs in the child, in
  /// the namespaces and still with our own user id (so that folders closed to others can be reached), just before it
  /// becomes the namespace's root: only async-signal-safe calls, non-zero aborts with that errno.
  void prepare(ProcessSpec& spec, std::function<int()> inside = {});
  /// After the spawn, whether it threw or not: throws the reason why the map could not be set, if that was it.
  void finish();

 private:
  struct Helper;
  std::unique_ptr<Helper> helper_;
};

/// `Process::spawn` in such a namespace. Errors: `host_lacks` naming the setting where user namespaces are off.
Process spawn_mapped(ProcessSpec spec, const IdMap& map, Deadline deadline, std::function<int()> inside = {});
/// As `run` (vmm/base/process.hpp), in such a namespace.
RunResult run_mapped(ProcessSpec spec, const IdMap& map, Deadline deadline);

/// Tries a namespace with `host_id_map()`. Throws `host_lacks` with the setting or the package where there is none to
/// be had. Any thread.
void check_user_namespaces(Deadline deadline);

/// Removes a tree whose files may belong to subordinate ids (guest root's). Never follows symlinks. A missing path is
/// success.
void remove_tree_mapped(const std::filesystem::path& path, Deadline deadline);

/// Gives the tree to the workspace's owner (`workspace_owner()`), symlinks themselves included. Only root needs it; for
/// others it does nothing. Call it before a guest sees the tree.
void give_tree_to_workspace_owner(const std::filesystem::path& path);

}  // namespace agentvm
