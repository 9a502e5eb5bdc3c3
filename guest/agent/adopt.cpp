#include "guest/agent/adopt.hpp"

#include <cstring>
#include <memory>

#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/apply.hpp"
#include "guest/agent/console.hpp"
#include "guest/agent/machine.hpp"
#include "guest/agent/supervisor.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr milliseconds network_patience{5'000}, start_patience{30'000}, device_patience{60'000};
constexpr int look_pause_us = 10'000;
constexpr unsigned journal_pause_seconds = 5;  // sshd and the agent's programs come first
constexpr const char* boot_id_file = "/run/agentvm/boot_id";
constexpr std::size_t seed_bytes = 256;

std::string new_boot_id() {
  auto hex = random_hex(16);
  hex[12] = '4';
  hex[16] = '8';
  return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4), hex.substr(16, 4),
                     hex.substr(20));
}

void show_boot_id(const fs::path& file) {
  check_errno(::mount(file.c_str(), "/proc/sys/kernel/random/boot_id", nullptr, MS_BIND, nullptr), file.string());
}

/// True in a process that is nobody's child here, and false in the caller.
bool in_background() {
  const auto child = check_errno(::fork(), "fork");
  if (child != 0) {
    ::waitpid(child, nullptr, 0);
    return false;
  }
  if (::fork() != 0) ::_exit(0);
  return true;
}

/// A process of its own: the device is plugged while we go on.
void begin_workspace(const Identity& identity) {
  if (identity.workspace != WorkspaceKind::virtiofs) return prepare_workspace("/", identity);
  if (!in_background()) return;
  ::prctl(PR_SET_NAME, "agentvm-mount");
  try {
    const auto deadline = Deadline::after(device_patience);
    const auto has_device = [] {
      std::error_code problem;
      for (const auto& entry : fs::directory_iterator("/sys/bus/virtio/drivers/virtiofs", problem))
        if (entry.path().filename().string().starts_with("virtio")) return true;
      return false;
    };
    while (!has_device() && !deadline.expired()) ::usleep(look_pause_us);
    prepare_workspace("/", identity);
  } catch (const std::exception& error) {
    say("/workspace: {}", error.what());
  }
  ::_exit(0);
}

/// systemd's journal names its folder by the machine's id.
void open_journal_anew() {
  if (!in_background()) return;
  ::sleep(journal_pause_seconds);
  try {
    ProcessSpec spec;
    spec.argv = {"systemctl", "try-restart", "--no-block", "systemd-journald.service"};
    run_checked(spec, Deadline::after(start_patience));
  } catch (const std::exception& error) {
    say("journal: {}", error.what());
  }
  ::_exit(0);
}

void open_way_in() {
  ProcessSpec spec;
  spec.argv = {"systemctl", "start", "--no-block", "ssh.service"};
  run_checked(spec, Deadline::after(start_patience));
  open_journal_anew();
}

void begin_nested(const Identity& identity) {
  if (!in_background()) return;
  start_kvm({identity.nested_memory, identity.nested_cpus});
  ::_exit(0);
}

}  // namespace

void reseed_kernel(std::string_view entropy) {
  const UniqueFd random = open_file("/dev/urandom", O_WRONLY);
  const auto size = sizeof(rand_pool_info) + entropy.size();
  const auto storage = std::make_unique<char[]>(size + sizeof(__u32));
  auto* const info = reinterpret_cast<rand_pool_info*>(storage.get());
  info->entropy_count = static_cast<int>(entropy.size() * 8);
  info->buf_size = static_cast<int>(entropy.size());
  std::memcpy(info->buf, entropy.data(), entropy.size());
  check_errno(::ioctl(random.get(), RNDADDENTROPY, info), "mixing in the host's random bytes");
  check_errno(::ioctl(random.get(), RNDRESEEDCRNG), "drawing from them");
}

AdoptionSteps machine_adoption() {
  AdoptionSteps steps;
  steps.reseed = reseed_kernel;
  steps.set_clock = set_clock;
  steps.set_hostname = set_hostname;
  steps.show_boot_id = show_boot_id;
  steps.configure_network = [](const GuestNetwork& network) {
    configure_network(network, Deadline::after(network_patience));
  };
  steps.begin_workspace = begin_workspace;
  steps.begin_nested = begin_nested;
  steps.open_way_in = open_way_in;
  return steps;
}

std::string adopt_identity(const fs::path& root, const Identity& identity, const AdoptionSteps& steps) {
  if (identity.entropy.size() < identity_entropy_bytes)
    throw Error(ErrorCode::usage, "the identity brings too few random bytes for a machine from a template");
  if (identity.host_key_private.empty() || identity.authorized_keys.empty())
    throw Error(ErrorCode::usage, "the identity brings no keys");
  const char* step = "renewing the kernel's randomness";
  try {
    steps.reseed(identity.entropy);
    step = "setting the clock";
    if (identity.unix_ns != 0) steps.set_clock(identity.unix_ns);
    step = "renewing the boot's id";
    const auto boot_id = new_boot_id();
    place_file(root, {boot_id_file, 0444, 0, 0, boot_id + "\n"});
    steps.show_boot_id(boot_id_file);
    step = "writing the identity's files";
    write_identity(root, identity);
    // The next boot's, which the template's would make the same for all.
    place_file(root, {"/var/lib/systemd/random-seed", 0600, 0, 0, random_hex(seed_bytes)});
    steps.set_hostname(identity.hostname);
    step = "configuring the network";
    if (identity.network) steps.configure_network(*identity.network);
    step = "preparing /workspace";
    steps.begin_workspace(identity);
    step = "starting sshd";
    // The boot is over; systemd-user-sessions, which says so, is not in every image.
    ::unlink((root / "run/nologin").c_str());
    steps.open_way_in();
    if (identity.nested) steps.begin_nested(identity);
    return boot_id;
  } catch (Error& error) {
    throw error.while_doing(step);
  }
}

}  // namespace agentvm::guest::agent
