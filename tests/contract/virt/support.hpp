#pragma once
// A guest that answers in seconds, and helpers that run as other processes or users.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/process.hpp"
#include "vmm/hypervisor.hpp"
#include "vmm/libvirt/libvirt_hypervisor.hpp"

namespace agentvm::test {

namespace fs = std::filesystem;

/// Whether this QEMU is none of 8.1 and 8.2, which can neither leave memory out of a state nor map it
/// (machine_state.hpp).
bool saves_machines(const MachinePlatform& platform);

/// The image under test (AGENTVM_TEST_IMAGE: kernel, initrd, root.raw); throws, and so fails the test, when the
/// variable is not set.
fs::path test_image();
/// Copies the image's kernel to `folder`/kernel and its initrd, with our probe as /agentvm-probe, to `folder`/initrd;
/// readable by all.
void make_probe_guest(const fs::path& folder);
/// A machine with the probe guest in `folder`; `mode` is the probe's. Its sockets are in `folder`, too.
MachineSpec probe_machine(const fs::path& folder, const std::string& domain, const std::string& mode);
std::string random_uuid();

/// Another process of this program: `helper` as main.cpp lists them.
struct HelperUser {
  unsigned uid, gid;
};
ProcessSpec helper_process(std::vector<std::string> arguments, std::optional<HelperUser> user = std::nullopt);
/// One line from `fd`, without its end; throws `timed_out`.
std::string read_line(int fd, Deadline deadline);
/// The value of "KEY: VALUE" lines in `text`; "(none)" when there is none.
std::string value_of(const std::string& text, const std::string& key);

/// A user of this host with subordinate ids, for as long as this lives; only root can make one.
class ThrowawayUser {
 public:
  ThrowawayUser();
  ~ThrowawayUser();
  ThrowawayUser(const ThrowawayUser&) = delete;
  ThrowawayUser& operator=(const ThrowawayUser&) = delete;
  HelperUser ids() const { return ids_; }

 private:
  std::string name_;
  HelperUser ids_{};
};

/// Helpers; each returns its exit status. Output is "KEY: VALUE" lines.
int run_helper(const std::vector<std::string>& arguments);

inline Deadline in_seconds(int count) {
  return Deadline::after(std::chrono::seconds(count));
}

}  // namespace agentvm::test
