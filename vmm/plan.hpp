#pragma once
// One plan: flags, environment, files and host facts resolved into what a start does, printable before anything runs.
//
// Job: the values of a sandbox to be, each with its origin, cut to what the host can give. Not its job: creating or
// looking up anything; whether a name is taken and what the files hold comes in through the request. Pure: the same
// request gives the same plan.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/names.hpp"
#include "vmm/config.hpp"
#include "vmm/host.hpp"
#include "vmm/hypervisor.hpp"
#include "vmm/secrets.hpp"

namespace agentvm {

enum class WorkspaceMode { virtiofs, disk };
enum class AcceleratorWish { automatic, kvm, tcg };
std::string_view to_string(WorkspaceMode mode);
std::string_view to_string(AcceleratorWish wish);
std::string_view to_string(NetworkMode mode);
/// What a guest reaches in this mode, for people: half a sentence.
std::string_view network_exposure(NetworkMode mode);
/// The inverses; throw `operation_failed` for unknown text.
WorkspaceMode workspace_mode_from(std::string_view text);
AcceleratorWish accelerator_wish_from(std::string_view text);
NetworkMode network_mode_from(std::string_view text);

/// A git work tree on the host.
struct Project {
  std::filesystem::path root;       ///< top level, absolute, symlinks resolved
  std::filesystem::path subfolder;  ///< from the root to where we were asked; empty at the root
  std::filesystem::path git_dir;    ///< its .git folder; elsewhere for worktrees and submodules
};

/// Walks up from `start` (absolute or relative to the working directory) to the folder that git calls the top level,
/// without running git. Throws `not_found`: no such folder, not a git repository, a bare repository, or inside a .git
/// folder.
Project find_project(const std::filesystem::path& start);
/// The branch that HEAD names; nothing when detached or unreadable.
std::optional<std::string> current_branch(const Project& project);

struct PlanRequest {
  Project project;
  std::filesystem::path cwd;                       ///< what a relative recipe path in a flag or variable starts from
  std::map<std::string, std::string> flags;        ///< as in `ConfigInput`
  std::map<std::string, std::string> environment;  ///< as in `ConfigInput`; see `config_environment`
  std::filesystem::path user_config;               ///< `Paths::config_file`
  HostFacts host;
  std::optional<std::string> head_branch;  ///< see `current_branch`
  /// The project's sandbox when there is one: the plan keeps its name unless another is asked for.
  std::optional<SandboxName> existing;
  /// Whether a sandbox of another project has this name. Unset: none is taken.
  std::function<bool(const SandboxName&)> taken;
  /// 4 hex digits for a name that is taken. Unset: from the project's path, so that the plan is the same each time.
  std::function<std::string()> suffix;
  /// Unset: `read_config_file`.
  std::function<std::optional<ConfigFile>(const std::filesystem::path&)> read_config;
  TrustLookup trust;  ///< as in `ConfigInput`
};

template <class T>
struct Planned {
  T value;
  Origin origin;
};

struct ImageRef {
  std::string name;              ///< empty for a recipe
  std::filesystem::path recipe;  ///< absolute; empty for a name
  std::string str() const { return recipe.empty() ? name : recipe.string(); }
};

/// What `Plan::agent` says for a terminal session with nothing but a shell.
inline constexpr const char* no_agent = "none";

struct Plan {
  Planned<SandboxName> name;
  Project project;
  Planned<std::optional<std::string>> branch;  ///< nothing: HEAD is detached; the commit is used
  Planned<ByteSize> memory;                    ///< what the guest gets
  ByteSize memory_asked;
  Planned<unsigned> vcpus;
  unsigned vcpus_asked = 1;
  Planned<bool> nested;
  Planned<bool> warm;
  Planned<ByteSize> nested_memory;  ///< what machines within the guest get together
  Planned<unsigned> nested_vcpus;
  Planned<WorkspaceMode> workspace;
  Planned<NetworkMode> network;
  Planned<ImageRef> image;
  Planned<std::vector<std::string>> layers;                                                ///< of a recipe's image
  Planned<std::vector<std::string>> env_pass, env_set, env_deny, env_files, env_commands;  ///< see `agent_environment`
  Planned<std::string> agent;                                                              ///< a name, or no_agent
  Planned<bool> credentials_copy;
  Planned<AcceleratorWish> accelerator;
  Planned<std::string> libvirt_uri;
  Planned<bool> persist, autostart;
  Planned<std::string> sync_mode;
  struct SyncLimits {
    Planned<ByteSize> bytes;
    Planned<unsigned> objects, refs;
    Planned<ByteSize> memory;
    Planned<unsigned> seconds;
  } sync_limits;
  Planned<std::vector<std::string>> egress_presets, egress_allow, egress_deny, egress_grants;
  Planned<bool> egress_ask;
  Planned<std::vector<SecretRule>> egress_secrets;  ///< the user's that this project has a part in
  Planned<std::vector<std::string>> egress_caps;    ///< as the key has them
  Planned<std::vector<std::string>> decoys;         ///< kinds, of vmm/decoys.hpp
  Planned<std::string> egress_upstream;
  Planned<bool> git_identity;
  std::vector<std::string> warnings;  ///< for standard error, before the start

  /// `{schema: "agentvm.plan/1", project, subfolder, <key>: {value, origin}, ..., warnings}`; the keys are the
  /// configuration's, dots as '_'.
  Json to_json() const;
};

/// A guest gets at most three quarters of the host's memory and leaves 1 GiB of what is available now, so that the host
/// keeps working; and at most as many vCPUs as the host may use. Less than 512 MiB is not worth a boot: `host_lacks`.
/// Throws what `resolve_config` throws, and `usage` when a name was asked for that another project's sandbox has.
Plan resolve_plan(const PlanRequest& request);

/// The memory that `resolve_plan` would give at most.
ByteSize memory_ceiling(const HostFacts& host);

}  // namespace agentvm
