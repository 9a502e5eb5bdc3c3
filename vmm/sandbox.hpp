#pragma once
// What is known about one sandbox: the record that outlives every process.
//
// Every field is enough for a restart, a reconcile or a resumed teardown by a manager that knows nothing else. JSON
// keys are the fields' names; sizes in bytes, times in seconds since 1970 here and RFC 3339 in the file. Value types:
// copy freely, share nothing.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/json.hpp"
#include "vmm/base/names.hpp"
#include "vmm/lifecycle.hpp"
#include "vmm/plan.hpp"

namespace agentvm {

/// A process of ours that outlives the manager: the pid alone may be somebody else's by now.
struct ProcessRecord {
  int pid = 0;
  unsigned long long start_ticks = 0;  ///< see `process_start_ticks`
  bool operator==(const ProcessRecord&) const = default;
};

/// One life of the machine.
struct BootRecord {
  std::int64_t started_at = 0;
  std::string boot_id;  ///< the host's: a machine recorded under another one is gone
  bool operator==(const BootRecord&) const = default;
};

struct SyncRecord {
  std::int64_t time = 0;
  std::string result;  ///< updated, up-to-date, gated, diverged, conflict, dirty
  std::string branch, old_tip, new_tip;
  std::string refs_token;  ///< what the guest's watch told before it; empty: nothing
  bool operator==(const SyncRecord&) const = default;
};

/// A work tree of the guest besides /workspace, as last seen there.
struct WorktreeRecord {
  std::string branch;  ///< empty: detached
  std::string path;    ///< in the guest
  bool operator==(const WorktreeRecord&) const = default;
};

struct SandboxRecord {
  std::string id;  ///< UUID; never reused
  SandboxName name;
  std::filesystem::path project;
  std::int64_t created = 0;

  SandboxState state = SandboxState::defined;
  std::string reason;   ///< one kebab-case word: user, idle, crash, guest-shutdown, start-failed ...
  std::string message;  ///< for people; may be empty
  std::int64_t state_since = 0;

  std::string branch;  ///< that /workspace started on; empty: a detached HEAD
  ByteSize memory;
  unsigned vcpus = 1;
  bool vcpus_asked = true;  ///< somebody said how many; otherwise an emulated machine has one
  bool nested = true;
  ByteSize nested_memory;     ///< what machines within the guest get together; 0: no limit
  unsigned nested_vcpus = 0;  ///< likewise
  WorkspaceMode workspace = WorkspaceMode::virtiofs;
  NetworkMode network = NetworkMode::filtered;
  std::string agent = no_agent;                ///< a name of the catalogue, or `no_agent`
  std::vector<std::string> agent_variables;    ///< names of what the agent program was last given
  std::vector<std::string> agent_credentials;  ///< files of the user's home that it was last lent
  std::string layer;                      ///< the key of the agent's layer, as last started with; empty: it has none
  std::string image;                      ///< as asked for: a name or a recipe's path
  std::vector<std::string> image_layers;  ///< as asked for, besides the recipe's own; sorted
  std::string image_digest;               ///< of the image that the disk stands on; empty before `prepared`
  AcceleratorWish accelerator_wish = AcceleratorWish::automatic;
  std::string accelerator;         ///< in use: "kvm" or "tcg"; empty before `starting`
  std::string accelerator_reason;  ///< why not KVM; empty with KVM
  std::string libvirt_uri;         ///< resolved: where reconciling looks
  bool saved = false;              ///< its memory is in files that fit its disk; with `saved`, and on the way from it
  bool warm_wish = false;          ///< let its first machine go on from a template
  bool warm = false;               ///< its machine did so
  std::string warm_reason;         ///< why not; empty when it did, and before `starting`
  bool persist = true;
  bool autostart = false;
  /// Made by `agentvm run` for one command, and removed with its end. A project's commands do not mean it, unless it is
  /// the only one.
  bool throw_away = false;
  std::string sync_mode;
  std::vector<std::string> egress_presets, egress_allow, egress_deny, egress_grants;
  bool egress_ask = false;
  std::vector<SecretRule> egress_secrets;  ///< what is known of them; their values are in no file of ours
  std::vector<std::string> egress_caps;    ///< how much of a host it may take
  std::vector<std::string> decoys;         ///< kinds of credentials that nobody should use
  std::string frozen;                      ///< why nothing of it may go on until its user says so; empty: it may
  /// Rules given to this sandbox alone, by `agentvm egress allow` and `deny`; no start changes them.
  std::vector<std::string> egress_own_allow, egress_own_deny;
  bool git_identity = true;

  std::uint16_t ssh_port = 0;  ///< on 127.0.0.1; 0 before the first start
  std::string domain;          ///< see `domain_name`
  std::optional<ProcessRecord> virtiofsd;
  std::optional<BootRecord> boot;
  std::string scope;         ///< of the user's systemd, that the machine runs in; empty: none
  std::string scope_reason;  ///< why none
  /// What is left of a teardown, next step first; not empty only in `starting` (a machine that hung
  /// is replaced), `stopping`, `stopped` (one that is about to be destroyed), `failed` and `destroying`.
  std::vector<std::string> teardown;
  std::optional<SyncRecord> last_sync;
  /// Since it last ran, its uncommitted work was not brought to the host: it crashed, or was stopped by force.
  bool unsaved = false;
  std::vector<WorktreeRecord> worktrees;
  /// Guest ref -> commit that both sides had at the last sync or population.
  std::map<std::string, std::string> base_commits;
  std::vector<std::string> warnings;

  /// Keys of the file that this version does not know: they are written back as they were.
  Json unknown = Json::object();
};

/// "avm-" and the first 8 hex digits of the id: short, because it becomes part of socket paths.
std::string domain_name(const std::string& id);
/// A random (version 4) UUID.
std::string new_uuid();

/// A record for a sandbox that does not exist yet, in `defined`, with the plan's values.
SandboxRecord record_from_plan(const Plan& plan, std::int64_t now);
/// Takes the plan's values over into a stopped sandbox's record; keeps identity, project, workspace mode and history.
/// What the disk already fixes (workspace mode) and the plan wants otherwise is told in `warnings`.
void apply_plan(SandboxRecord& record, const Plan& plan);

/// Moves the state by `event` and sets reason, message and time; throws `wrong_state` and changes nothing where the
/// table has no such cell.
void apply_event(SandboxRecord& record, SandboxEvent event, std::string reason, std::string message, std::int64_t now);

inline constexpr int record_schema = 1;
Json record_to_json(const SandboxRecord& record);
/// Throws `operation_failed` naming the missing or wrong key, or the newer format.
SandboxRecord record_from_json(const Json& json);

}  // namespace agentvm
