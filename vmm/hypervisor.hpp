#pragma once
// The port to whatever runs machines. Few verbs; what differs is declared as a capability, never guessed.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/sizes.hpp"

namespace agentvm {

enum class Accelerator { kvm, tcg };
enum class NetworkMode { filtered, nat, none };
enum class DiskFormat { raw, qcow2 };

struct DiskSpec {
  std::filesystem::path path;
  DiskFormat format = DiskFormat::qcow2;
  std::optional<std::filesystem::path> backing;  ///< with its format, always explicit
  DiskFormat backing_format = DiskFormat::raw;
  bool read_only = false;
  std::string serial;  ///< at most 20 characters; names the disk in the guest
};

/// A host folder served by a virtiofsd that already listens.
struct ShareSpec {
  std::string tag;
  std::filesystem::path socket;
};

/// One machine, complete: what `domain_xml` turns into a definition. Knows no sandbox beyond its id.
struct MachineSpec {
  std::string domain;   ///< domain name: unique per hypervisor, short (it becomes part of socket paths)
  std::string id;       ///< UUID; also the sandbox's id in the metadata element
  std::string sandbox;  ///< the sandbox's name, for people who look with virsh
  std::string home;     ///< tells apart whose machines a shared daemon runs; [A-Za-z0-9._-], may be empty
  ByteSize memory;
  unsigned vcpus = 1;
  Accelerator accelerator = Accelerator::tcg;
  bool nested = true;
  std::filesystem::path kernel, initrd;
  std::string cmdline;
  std::vector<DiskSpec> disks;
  std::vector<ShareSpec> shares;
  std::filesystem::path serial_socket;  ///< QEMU listens; we connect, read and bound it
  std::filesystem::path agent_socket;   ///< QEMU listens; the virtio-serial port `org.agentvm.agent.0`
  NetworkMode network = NetworkMode::filtered;
  std::uint16_t ssh_port = 0;  ///< on 127.0.0.1, forwarded to the guest's 22
  std::string generation_id;   ///< UUID for vmgenid; empty: none. Without effect where the firmware cannot place the
                               ///< device (qboot)
  enum class Begin {
    boot,
    state,  ///< it waits for `Hypervisor::load_state`; to be started paused
  } begin = Begin::boot;
};

/// What a machine is besides its disks, as files. Good for machines of the same definition (name, id, paths and ports
/// may differ) on the same emulator.
struct MachineState {
  std::filesystem::path devices;  ///< the emulator's stream of CPUs and devices, or the word that it is in `memory`
  std::filesystem::path memory;   ///< at least as long as the guest's memory; what is zero there is a hole
  std::filesystem::path socket;   ///< a path of ours that nobody uses, for the transfer
};

enum class DomainState { running, paused, shut_off };

struct DomainInfo {
  std::string domain;
  std::string id;  ///< from our metadata element; empty: not ours
  DomainState state = DomainState::shut_off;
  std::string home = {};  ///< as in its `MachineSpec`
};

enum class HypervisorCapability {
  state,     ///< `save_state` and `load_state`
  hot_plug,  ///< `plug`
  events,
  survives_close,
};

/// Thread-safe. Every call blocks and ends by its deadline (`timed_out`). Errors of the library become `Error` with its
/// own text.
class Hypervisor {
 public:
  enum class Start { running, paused };
  struct Event {
    std::string domain;
    enum class Kind {
      stopped,    ///< the guest powered off
      destroyed,  ///< somebody ended the machine: `stop`, or another program
      crashed,
      paused,
      resumed,
      reconnected,  ///< the driver was away, and nothing was told meanwhile; of no domain
    } kind;
  };

  virtual ~Hypervisor() = default;
  virtual std::string uri() const = 0;
  virtual std::set<HypervisorCapability> capabilities() const = 0;
  /// Transient: no definition outlives the machine. Throws `wrong_state` when the domain exists.
  virtual void start(const MachineSpec& spec, Start mode, Deadline deadline) = 0;
  /// Ends the machine at once; one that is gone already is success.
  virtual void stop(const std::string& domain, Deadline deadline) = 0;
  /// Asks the guest to power off (ACPI); returns at once.
  virtual void request_shutdown(const std::string& domain, Deadline deadline) = 0;
  /// Pausing a paused machine and resuming a running one succeed. A missing machine is `not_found`.
  virtual void pause(const std::string& domain, Deadline deadline) = 0;
  virtual void resume(const std::string& domain, Deadline deadline) = 0;
  virtual std::optional<DomainInfo> find(const std::string& domain, Deadline deadline) = 0;
  virtual std::vector<DomainInfo> list(Deadline deadline) = 0;
  /// Writes the state of a paused machine without shares into files that do not exist yet (0600). Its disks are whole
  /// once it was stopped, which is all that it is good for then. What was written before an error is the caller's to
  /// remove. With `HypervisorCapability::state`; `host_lacks` without.
  virtual void save_state(const std::string& domain, const MachineState& into, Deadline deadline) = 0;
  /// Fills a machine that was started paused with `MachineSpec::Begin::state`; it is paused afterwards, and a `resume`
  /// goes on where the other one was. After an error it can only be stopped.
  virtual void load_state(const std::string& domain, const MachineState& from, Deadline deadline) = 0;
  /// Gives a machine a share, whose virtiofsd listens; to be called once for a machine. With
  /// `HypervisorCapability::hot_plug`; `host_lacks` without.
  virtual void plug(const std::string& domain, const ShareSpec& share, Deadline deadline) = 0;
  /// The process that runs the domain, where it is on this host.
  virtual std::optional<int> pid(const std::string& domain, Deadline deadline) = 0;
  /// `callback` runs on an unspecified thread and must not block or call back in. Replaces the one before, which does
  /// not run any more once this returned; an empty one is none.
  virtual void on_event(std::function<void(const Event&)> callback) = 0;
};

}  // namespace agentvm
