#pragma once
// The daemon that shares one folder with one guest. Theory of operation: README.md in this folder.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/virtiofs/id_map.hpp"

namespace agentvm {

/// A process by its pid and when it began, so that a recycled pid is never taken for it. Goes into the record.
struct ProcessIdentity {
  int pid = 0;
  unsigned long long start_ticks = 0;
};

struct VirtiofsSpec {
  std::filesystem::path folder;  ///< must exist; nothing outside it can be reached
  std::filesystem::path socket;  ///< where QEMU connects: shorter than 108 bytes; its folder must exist
  std::filesystem::path log;     ///< the daemon's output, at most 256 KiB; replaced
  IdMap map;                     ///< usually `host_id_map()`
  enum class Access { read_write, read_only } access = Access::read_write;  ///< enforced on the host
};

enum class VirtiofsdKind { c_qemu, rust };
struct VirtiofsdProgram {
  std::filesystem::path path;
  VirtiofsdKind kind = VirtiofsdKind::c_qemu;
  std::string version = {};  ///< as it prints it, cleaned; for people
};

/// The daemon on this host, told apart by its --version. Throws `host_lacks` with the package to install.
VirtiofsdProgram find_virtiofsd(Deadline deadline);
/// The kind from what `--version` prints.
VirtiofsdKind virtiofsd_kind(std::string_view version_output);
/// How many files a daemon that we start may hold open, at most 1048576. It holds one per file and folder that the
/// guest's kernel remembers (of both kinds of daemon: inodes are kept as descriptors), so a workspace with more fails
/// in the guest with "Too many open files". Lower where the hard limit of RLIMIT_NOFILE is and cannot be raised
/// (setrlimit(2): CAP_SYS_RESOURCE).
std::uint64_t virtiofsd_open_files();
/// Throws `host_lacks` when `folder` has more files and folders than `limit`. Symbolic links are not followed.
void check_shareable(const std::filesystem::path& folder, std::uint64_t limit = virtiofsd_open_files());
/// The daemon's command line, sharing `folder` on the listening socket `listen_fd`.
std::vector<std::string> virtiofsd_arguments(const VirtiofsdProgram& program, const std::filesystem::path& folder,
                                             int listen_fd);

/// A started daemon. Destroying it ends the daemon unless `release` was called: a start that fails leaves none behind.
class VirtiofsDaemon {
 public:
  explicit VirtiofsDaemon(ProcessIdentity identity) : identity_(identity) {}
  VirtiofsDaemon(VirtiofsDaemon&& other) noexcept : identity_(std::exchange(other.identity_, {})) {}
  VirtiofsDaemon& operator=(VirtiofsDaemon&& other) noexcept;
  ~VirtiofsDaemon();

  ProcessIdentity identity() const { return identity_; }
  /// It now lives as long as its QEMU does; end it early with `stop_virtiofsd`.
  ProcessIdentity release() { return std::exchange(identity_, {}); }

 private:
  ProcessIdentity identity_;
};

/// Starts the daemon; when this returns the socket accepts a connection. The daemon serves one QEMU, ends with it, and
/// outlives us.
VirtiofsDaemon start_virtiofsd(const VirtiofsSpec& spec, Deadline deadline);
/// Ends exactly that process and its worker; one that is gone already is success. Throws `timed_out`.
void stop_virtiofsd(const ProcessIdentity& identity, Deadline deadline);
/// Whether that very process runs.
bool virtiofsd_runs(const ProcessIdentity& identity);

}  // namespace agentvm
