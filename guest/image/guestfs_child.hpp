#pragma once
// The program agentvm-guestfs as a child: its appliance prepared and kept, what it says followed, nothing of it left.

#include <filesystem>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "guest/image/images.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/process.hpp"
#include "vmm/hypervisor.hpp"

namespace agentvm {

struct ApplianceSite {
  Image image;  ///< whose kernel and modules the appliance has
  std::filesystem::path libexec;
  std::filesystem::path cache;    ///< for the appliance, 400 MB; made. One use at a time has it
  std::filesystem::path scratch;  ///< exists, private, the caller's to remove
  std::filesystem::path sockets;  ///< a short path (108 bytes with what comes below); made, and removed
  Accelerator accelerator = Accelerator::tcg;
};

/// Not thread-safe. Destroying it kills the child and its appliance.
class GuestfsChild {
 public:
  /// Prepares the appliance and starts `agentvm-guestfs VERB APPLIANCE WORDS...`; `fds` as in `ProcessSpec`, besides
  /// its own. Blocking. Throws `host_lacks` (programs, packages), `timed_out`, `operation_failed`.
  GuestfsChild(const ApplianceSite& site, const std::string& verb, const std::vector<std::string>& words,
               const std::map<int, int>& fds, const Progress& progress, Deadline deadline);
  ~GuestfsChild();
  GuestfsChild(const GuestfsChild&) = delete;
  GuestfsChild& operator=(const GuestfsChild&) = delete;

  /// Until it said its last: its result, or the error that it told, in clean text. `what` names the work; its steps are
  /// told as `step`, or as they are where that is empty. `stop` ends it: `cancelled`. Nothing of it is left in any
  /// case.
  Json finish(const std::string& what, const std::string& step, const Progress& progress, Deadline deadline,
              const std::stop_token& stop = {});

 private:
  void kill();

  FileLock turn_;
  std::filesystem::path sockets_;
  UniqueFd said_;
  std::optional<Process> child_;
};

/// Removes the appliances in `cache`, unless one is in use: how many bytes that freed.
std::uint64_t prune_appliances(const std::filesystem::path& cache);

}  // namespace agentvm
