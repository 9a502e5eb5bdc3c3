#pragma once
// Where things live: one value made from the environment, handed down.

#include <filesystem>
#include <functional>
#include <string>

namespace agentvm {

struct Paths {
  std::filesystem::path config_file;  ///< ~/.config/agentvm/config.yaml
  std::filesystem::path state;        ///< ~/.local/state/agentvm: records, disks, sockets, logs
  std::filesystem::path data;         ///< ~/.local/share/agentvm: images, templates
  std::filesystem::path runtime;      ///< $XDG_RUNTIME_DIR/agentvm: the client's socket alone
  std::filesystem::path libexec;      ///< beside the running program: agentvm-manager, agentvm-git, agentvm-guest ...

  // State folder
  std::filesystem::path sandboxes() const { return state / "sandboxes"; }
  std::filesystem::path sandbox(const std::string& name) const { return sandboxes() / name; }
  std::filesystem::path libvirt_root() const { return state / "libvirt"; }
  /// Sockets of one sandbox, under a short name because of the 108-byte limit of socket paths.
  std::filesystem::path sockets(const std::string& name) const;
  std::filesystem::path manager_lock() const { return state / "manager.lock"; }
  /// Where the manager wrote down its socket: a client whose runtime folder is another one looks there.
  std::filesystem::path manager_address() const;
  std::filesystem::path manager_log() const { return state / "manager.log"; }
  std::filesystem::path proxy_authority() const { return state / "proxy-ca"; }
  std::filesystem::path host_facts() const { return state / "host"; }
  // Data folder
  std::filesystem::path images() const { return data / "images"; }
  std::filesystem::path layers() const { return data / "layers"; }  ///< a folder per layer, named by its key
  std::filesystem::path runs() const { return data / "runs"; }      ///< clones that `run --repo` made: runs/*/NAME
  // Runtime folder
  std::filesystem::path manager_socket() const;
};

/// AGENTVM_HOME puts all four below one folder; else AGENTVM_CONFIG, the XDG variables and HOME. `lookup` returns ""
/// for unset variables. Throws `usage` for a relative AGENTVM_HOME and `host_lacks` when there is no HOME. Creates
/// nothing.
Paths resolve_paths(const std::function<std::string(const std::string&)>& lookup);
/// From the process environment.
Paths resolve_paths();

}  // namespace agentvm
