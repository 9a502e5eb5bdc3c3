#include "guest/agent/machine.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/agent/console.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr int device_pause_milliseconds = 5;

std::string first_line(const fs::path& path) {
  const auto text = read_file_if_exists(path, 64u << 10).value_or(std::string());
  return std::string(text.begin(), std::find(text.begin(), text.end(), '\n'));
}

std::string strip(std::string line) {
  while (!line.empty() && (line.back() == ' ' || line.back() == '\r')) line.pop_back();
  return line;
}

void load_module(const fs::path& path) {
  const auto fd = open_file(path, O_RDONLY);
  if (::syscall(SYS_finit_module, fd.get(), "", 0) < 0 && errno != EEXIST) throw_errno(path.filename().string());
}

/// A sysfs port folder whose name file holds `name`; its folder name is the device node's.
std::string find_port(const std::string& name) {
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator("/sys/class/virtio-ports", problem))
    if (first_line(entry.path() / "name") == name) return "/dev/" + entry.path().filename().string();
  return "";
}

}  // namespace

void mount_or_throw(const char* source, const std::string& target, const char* type, unsigned long flags,
                    const char* options) {
  ::mkdir(target.c_str(), 0755);
  if (::mount(source, target.c_str(), type, flags, options) < 0 && errno != EBUSY)
    throw_errno(fmt::format("mounting {} ({}) on {}", source, type, target));
}

std::optional<std::string> kernel_argument(const std::string& name) {
  const auto line = " " + first_line("/proc/cmdline") + " ";
  const auto start = line.find(" " + name + "=");
  if (start == std::string::npos) return std::nullopt;
  const auto value = start + name.size() + 2;
  return line.substr(value, line.find(' ', value) - value);
}

void load_modules(const fs::path& list) {
  const auto text = read_file_if_exists(list, 64u << 10);
  if (!text) return say("no {}: only built-in drivers", list.string());
  for (std::size_t start = 0; start < text->size();) {
    const auto end = std::min(text->find('\n', start), text->size());
    auto line = strip(text->substr(start, end - start));
    start = end + 1;
    if (line.empty() || line[0] == '#') continue;
    const bool optional = line[0] == '-';
    if (optional) line.erase(0, 1);
    try {
      load_module(list.parent_path() / line);
    } catch (const Error& error) {
      if (!optional || error.code() != ErrorCode::not_found) say("module not loaded: {}", error.what());
    }
  }
}

void wait_for_path(const std::string& path, Deadline deadline) {
  while (::access(path.c_str(), F_OK) != 0) {
    if (deadline.expired()) throw Error(ErrorCode::timed_out, path + " did not appear");
    ::poll(nullptr, 0, device_pause_milliseconds);
  }
}

UniqueFd open_agent_port(const std::string& name, Deadline deadline) {
  for (;;) {
    const auto path = find_port(name);
    const int fd = path.empty() ? -1 : ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) return UniqueFd(fd);
    if (deadline.expired()) throw Error(ErrorCode::timed_out, "the virtio-serial port " + name + " did not appear");
    ::poll(nullptr, 0, device_pause_milliseconds);
  }
}

void set_clock(std::int64_t unix_ns) {
  const timespec time{static_cast<time_t>(unix_ns / 1'000'000'000), static_cast<long>(unix_ns % 1'000'000'000)};
  check_errno(::clock_settime(CLOCK_REALTIME, &time), "setting the clock");
}

void set_hostname(const std::string& hostname) {
  check_errno(::sethostname(hostname.data(), hostname.size()), "setting the host name");
}

void prepare_workspace(const fs::path& root, const Identity& identity) {
  const auto folder = (root / "workspace").string();
  if (identity.workspace == WorkspaceKind::none) return;
  if (identity.workspace == WorkspaceKind::virtiofs)
    return mount_or_throw(identity.workspace_tag.c_str(), folder, "virtiofs", MS_NOSUID | MS_NODEV);
  ::mkdir(folder.c_str(), 0755);
  const UniqueFd fd(check_errno(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), folder));
  check_errno(::fchown(fd.get(), agent_uid, agent_gid), folder);
}

std::optional<std::string> kvm_module() {
  const auto text = " " + read_file_if_exists("/proc/cpuinfo", 4u << 20).value_or("");
  const auto line = text.find("\nflags");
  const auto flags = line == std::string::npos ? "" : text.substr(line + 1, text.find('\n', line + 1) - line - 1) + " ";
  if (flags.find(" svm ") != std::string::npos) return "kvm_amd";
  if (flags.find(" vmx ") != std::string::npos) return "kvm_intel";
  return std::nullopt;
}

std::string boot_id() {
  return first_line("/proc/sys/kernel/random/boot_id");
}

void power_off_now() {
  ::sync();
  ::reboot(RB_POWER_OFF);
  for (;;) ::pause();
}

}  // namespace agentvm::guest::agent
