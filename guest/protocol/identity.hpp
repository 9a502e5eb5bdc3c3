#pragma once
// What makes a guest this guest: made on the host, sent once over the agent port, never in the image.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/json.hpp"

namespace agentvm::guest {

/// A file to write below the guest's root. The last part of `path` is never followed; it is replaced.
struct GuestFile {
  std::string path;  ///< absolute, no ".." and no empty part
  unsigned mode = 0644;
  unsigned uid = 0, gid = 0;
  std::string content;  ///< any bytes
};

/// The one virtio NIC. `lo` is always brought up.
struct GuestNetwork {
  std::string address = "10.0.2.15";  ///< IPv4, dotted
  unsigned prefix = 24;
  std::string gateway;      ///< empty: no default route (a restricted network needs none)
  std::string resolv_conf;  ///< content of /etc/resolv.conf; empty: left as the image has it
};

enum class WorkspaceKind {
  none,
  virtiofs,  ///< mount `workspace_tag` on /workspace, nosuid,nodev
  disk,      ///< /workspace is a folder of the root disk, owned by the agent
};

struct Identity {
  std::string hostname;          ///< one DNS label
  std::string machine_id;        ///< 32 lower-case hex digits
  std::string host_key_private;  ///< OpenSSH format; /etc/ssh/ssh_host_ed25519_key, 0600
  std::string host_key_public;
  std::string authorized_keys;  ///< of the user agent
  std::optional<GuestNetwork> network;
  WorkspaceKind workspace = WorkspaceKind::none;
  std::string workspace_tag = "workspace";
  bool nested = false;              ///< load kvm_amd or kvm_intel and give /dev/kvm to the agent
  std::uint64_t nested_memory = 0;  ///< what the guest's own machines get together, bytes; 0: no limit
  unsigned nested_cpus = 0;         ///< and CPUs; 0: no limit
  std::int64_t unix_ns = 0;         ///< the host's clock; 0: Control::identify puts the time of sending
  std::vector<GuestFile> files;
  /// The machine becomes a template: it comes up without a way in, and waits there for an identity that counts.
  bool for_template = false;
  /// Random bytes of the host for a machine from a template, `identity_entropy_bytes` or more.
  std::string entropy;

  Json to_json() const;
  /// Throws `operation_failed` naming the key that is missing or not well-formed.
  static Identity from_json(const Json& json);
};

inline constexpr std::size_t identity_entropy_bytes = 64;
inline constexpr unsigned agent_uid = 1000, agent_gid = 1000;

}  // namespace agentvm::guest
