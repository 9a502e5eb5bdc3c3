#pragma once
// The sandboxes of one user: one folder each, and the folder is the database.
//
// Job: creating, listing, changing and removing records so that every reader at every moment, after every crash, sees a
// whole one. Not its job: what is in the folders besides (each owner of a file does that, under the names below), and
// running anything. Flow: a new sandbox is filled in a folder `.new-*` and appears by one rename; a change writes a new
// record beside the old one and renames it over; a removal renames the folder to `.gone-*` first and then deletes. What
// a crash leaves (`.new-*`, `.gone-*`, temporary records) is swept by `sweep`. Threads and processes: every call may be
// made from any of them; a change holds a lock on the sandbox's folder, a read holds none.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/paths.hpp"
#include "vmm/sandbox.hpp"

namespace agentvm {

/// Names inside a sandbox's folder.
namespace sandbox_files {
inline constexpr const char* record = "record.json";
inline constexpr const char* disk = "disk.qcow2";
inline constexpr const char* keys = "keys";  ///< folder, 0700
inline constexpr const char* host_key = "keys/host_ed25519";
inline constexpr const char* host_key_public = "keys/host_ed25519.pub";
inline constexpr const char* client_key = "keys/client_ed25519";
inline constexpr const char* client_key_public = "keys/client_ed25519.pub";
inline constexpr const char* known_hosts = "known_hosts";
inline constexpr const char* serial_log = "serial.log";
inline constexpr const char* serial_log_previous = "serial.log.1";
inline constexpr const char* egress_journal = "egress.jsonl";  ///< and egress.jsonl.1; see `egress::Journal`
inline constexpr const char* placeholders = "secrets.json";    ///< of secrets: what the guest has in their place
inline constexpr const char* decoys = "decoys.json";           ///< what those of the sandbox are made of
inline constexpr const char* egress_authority = "egress-ca";   ///< folder, 0700; of TLS that is ended for secrets
inline constexpr const char* virtiofsd_log = "virtiofsd.log";
inline constexpr const char* terminals = "terminals";    ///< folder: what agents' sessions showed at the last stop
inline constexpr const char* workspace = "workspace";    ///< folder; the clone in virtiofs mode
inline constexpr const char* saved = "saved";            ///< folder, 0700; the memory of a saved sandbox
inline constexpr const char* domain_xml = "domain.xml";  ///< as last started, for people
}  // namespace sandbox_files

/// Names inside `Paths::sockets`.
namespace socket_files {
inline constexpr const char* serial = "serial.sock";
inline constexpr const char* agent = "agent.sock";
inline constexpr const char* virtiofs = "fs.sock";
}  // namespace socket_files

struct BrokenRecord {
  std::string name;
  Error error;
};

struct StoreListing {
  std::vector<SandboxRecord> records;  ///< by name
  std::vector<BrokenRecord> broken;    ///< folders whose record cannot be read; told, never touched
};

class Store {
 public:
  /// `state` is `Paths::state`; it and its `sandboxes` folder are created when first written to.
  explicit Store(const std::filesystem::path& state);

  std::filesystem::path folder(const SandboxName& name) const;

  /// Never throws for a single record.
  StoreListing list() const;
  /// Nothing when there is none; throws naming the sandbox when its record is broken.
  std::optional<SandboxRecord> find(const SandboxName& name) const;
  /// As `find`, but throws `not_found` with the nearest name.
  SandboxRecord get(const SandboxName& name) const;
  /// Those of the project whose top level this is, by name.
  std::vector<SandboxRecord> find_by_project(const std::filesystem::path& root) const;
  /// Of those, what the project's commands mean without a name: the ones that were not made for one command
  /// (`throw_away`); where all of them were, these.
  std::vector<SandboxRecord> meant_by_project(const std::filesystem::path& root) const;

  /// Creates the folder (0700) with the record. When the name is taken (by anything), 4 hex digits are added until it
  /// is free. Returns the record as stored. On error nothing is left.
  SandboxRecord create(SandboxRecord record);
  /// Reads the record, hands it to `change`, and replaces it, under the record's lock; returns what was stored. When
  /// `change` throws, or writing fails, the old record stands and the error passes through. Id and name cannot be
  /// changed. `not_found` when it is gone; `timed_out`.
  SandboxRecord update(const SandboxName& name, const std::function<void(SandboxRecord&)>& change,
                       Deadline deadline = Deadline::after(std::chrono::seconds(10)));
  /// The folder and all in it. Gone already is success. A failure half way leaves a `.gone-*` folder for `sweep`, and
  /// no sandbox.
  void remove(const SandboxName& name, Deadline deadline = Deadline::after(std::chrono::seconds(10)));
  /// Deletes what interrupted calls left behind. For the one process that creates and removes (it holds the manager's
  /// lock).
  void sweep();

 private:
  SandboxRecord read(const SandboxName& name) const;
  void write(const std::filesystem::path& folder, const SandboxRecord& record) const;
  std::filesystem::path sandboxes_;
};

/// Which sandbox a command means: the named one, else the only one of the project around `cwd`. Throws `not_found` (no
/// such name; not in a git repository; the project has none) and `usage` (the project has several: all are listed).
SandboxRecord resolve_sandbox(const Store& store, const std::optional<SandboxName>& name,
                              const std::filesystem::path& cwd);

}  // namespace agentvm
