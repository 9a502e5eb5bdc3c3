#include "vmm/libvirt/embedded_root.hpp"

#include <cctype>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <optional>

#include <fmt/format.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/unix_socket.hpp"

namespace agentvm::libvirt {
namespace {

/// libvirt puts a machine's monitor at <root>/lib/qemu/domain-<number>-<name, cut to 20>/monitor.sock.
constexpr std::string_view longest_monitor_name = "lib/qemu/domain-99999-12345678901234567890/monitor.sock";

struct Claim {
  std::filesystem::path root;
  FileLock lock;
};
std::mutex claim_mutex;
std::optional<Claim> claim;  // guarded by claim_mutex; never given back

FileLock lock_root(const std::filesystem::path& root, Deadline deadline) {
  const auto path = root / "agentvm.lock";
  try {
    return FileLock::acquire(path, deadline);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::timed_out) throw;
    const auto holder = read_tail(path, 32);
    throw Error(ErrorCode::wrong_state,
                fmt::format("the machines below {} are run by another process{}", root.string(),
                            holder.empty() ? "" : ", pid " + holder),
                "agentvm manager stop");
  }
}

/// An emulator that libvirt asks for its features has left its session and outlives a manager that is killed meanwhile.
/// Whoever holds the root's lock is alone here: what answers at a monitor below it now is an orphan.
void end_orphaned_probes(const std::filesystem::path& root) {
  std::error_code absent;
  for (const auto& entry : std::filesystem::directory_iterator(root / "lib/qemu", absent)) {
    const auto folder = entry.path().string();
    if (!entry.path().filename().string().starts_with("qmp-")) continue;
    for (const auto& process : std::filesystem::directory_iterator("/proc")) {
      const int pid = std::atoi(process.path().filename().c_str());
      if (pid <= 0) continue;
      std::optional<std::string> arguments;
      try {
        arguments = read_file_if_exists(process.path() / "cmdline", 1u << 20);
      } catch (const Error&) {
        continue;  // it ended while we looked
      }
      if (arguments && arguments->find("unix:" + folder + "/") != std::string::npos) ::kill(pid, SIGKILL);
    }
    remove_tree(folder);
  }
}

}  // namespace

std::string qemu_conf(bool as_root) {
  std::string text =
      "# Written by agentvm at every start; changes are lost.\n"
      "stdio_handler = \"file\"\n"  // virtlogd need not run
      "seccomp_sandbox = 1\n"
      "security_driver = \"none\"\n"  // paths below the state folder have no label
      "dynamic_ownership = 0\n"       // files are created with their final owner
      "remember_owner = 0\n"
      "max_core = 0\n"  // guest memory never lands in a core file
      "dump_guest_core = 0\n"
      "cgroup_controllers = []\n"  // no daemon of the system is asked to make a scope
      "namespaces = []\n"
      "clear_emulator_capabilities = 1\n";
  if (as_root) text += "user = \"root\"\ngroup = \"root\"\n";
  return text;
}

void claim_embedded_root(const std::filesystem::path& root, Deadline deadline) {
  if (!root.is_absolute())
    throw Error(ErrorCode::usage, fmt::format("libvirt's folder {} is not an absolute path", root.string()));
  check_socket_path(root / longest_monitor_name);
  const std::lock_guard guard(claim_mutex);
  if (claim && claim->root == root) return;
  if (claim)
    throw Error(ErrorCode::wrong_state,
                fmt::format("this process runs the machines below {} and cannot also run those below {}",
                            claim->root.string(), root.string()));
  ensure_private_dir(root / "etc");
  auto lock = lock_root(root, deadline);
  lock.record_pid();
  end_orphaned_probes(root);
  write_file_atomic(root / "etc" / "qemu.conf", qemu_conf(::geteuid() == 0));
  claim.emplace(Claim{root, std::move(lock)});
}

PrivateFolders::PrivateFolders(const std::filesystem::path& root) {
  for (const char* name : {"XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}) {
    const char* value = ::getenv(name);
    before_[name] = value ? std::optional<std::string>(value) : std::nullopt;
    const auto folder = root / "xdg" / name;
    ensure_private_dir(folder);
    ::setenv(name, folder.c_str(), 1);
  }
}

PrivateFolders::~PrivateFolders() {
  for (const auto& [name, value] : before_)
    if (value)
      ::setenv(name.c_str(), value->c_str(), 1);
    else
      ::unsetenv(name.c_str());
}

void drop_capabilities_of_children() noexcept {
  // Not by the bounding set: between fork and execution libvirt takes CAP_SETPCAP for itself, and without it in that
  // set fails ("cannot apply process capabilities -5") whenever it asks an emulator for its features on such a thread.
  // Unprivileged, the calls fail and nothing is lost: there is no capability to give.
  ::prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0);
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

void trim_machine_log(const std::filesystem::path& root, const std::string& domain) {
  constexpr std::uintmax_t limit_bytes = 1u << 20;
  const auto log = root / "log" / "qemu" / (domain + ".log");
  std::error_code ignored;  // absent: nothing to trim
  const auto size = fs::file_size(log, ignored);
  if (!ignored && size > limit_bytes) fs::remove(log, ignored);
}

std::string embedded_uri(const std::filesystem::path& root) {
  std::string text = "qemu:///embed?root=";
  for (const unsigned char c : root.string())
    text += std::isalnum(c) || c == '/' || c == '.' || c == '_' || c == '-' ? std::string(1, static_cast<char>(c))
                                                                            : fmt::format("%{:02X}", c);
  return text;
}

}  // namespace agentvm::libvirt
