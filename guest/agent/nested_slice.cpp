#include "guest/agent/nested_slice.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/console.hpp"
#include "guest/agent/machine.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr const char* group_name = "agentvm.nested";
/// Below the group: while it has limits, nobody can take the controllers from the groups above.
constexpr const char* machines_name = "machines";
constexpr std::uint64_t period_us = 100'000;  // the kernel's default, cpu.max in cgroup-v2.rst
constexpr std::size_t text_limit_bytes = 64u << 10;
constexpr milliseconds userspace_patience{120'000};
constexpr int set_up_attempts = 5;  // systemd writes to the groups above meanwhile
constexpr milliseconds set_up_pause{1'000};
/// After a machine was made: the kernel tells of it just before its descriptor is there. The last look takes libvirt's,
/// too, which must be up by then. Machines that are made in a row are looked for no more often than after the first.
constexpr milliseconds first_pause{100}, later_pauses[] = {milliseconds(1'000), milliseconds(30'000)};
constexpr unsigned kernel_events = 1;  // the group of what the kernel itself tells; udev's is 2

/// The kernel's files cannot be replaced, only written to.
void write_value(const fs::path& file, const std::string& value) {
  const auto fd = open_file(file, O_WRONLY | O_CLOEXEC);
  if (::write(fd.get(), value.data(), value.size()) < 0) throw_errno("writing " + value + " to " + file.string());
}

/// Empty where it cannot be read: what it is about has ended.
std::string read_value(const fs::path& file) {
  std::string text;
  try {
    text = read_file_if_exists(file, text_limit_bytes).value_or("");
  } catch (const Error&) {
    return "";
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || text.empty()) return std::nullopt;
  return value;
}

bool holds_a_machine(const fs::path& process) {
  std::error_code gone;
  for (auto entry = fs::directory_iterator(process / "fd", gone); !gone && entry != fs::directory_iterator();
       entry.increment(gone)) {
    const auto target = fs::read_symlink(entry->path(), gone);
    if (!gone && target == "anon_inode:kvm-vm") return true;
    gone.clear();
  }
  return false;
}

/// Of libvirt: "/machine/qemu-1-NAME.libvirt-qemu/..." or, with machined, below "/machine.slice".
bool is_in_libvirts_group(const fs::path& process) {
  const auto groups = "\n" + read_value(process / "cgroup");
  return groups.find("\n0::/machine") != groups.npos;
}

std::size_t lines(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

NestedSlice::NestedSlice(fs::path cgroups, fs::path proc) : cgroups_(std::move(cgroups)), proc_(std::move(proc)) {}

void NestedSlice::set_up(const NestedLimits& limits) {
  const auto group = cgroups_ / group_name, machines = group / machines_name;
  for (const auto& folder : {group, machines})
    if (::mkdir(folder.c_str(), 0755) < 0 && errno != EEXIST) throw_errno("making " + folder.string());
  for (const auto& folder : {cgroups_, group}) write_value(folder / "cgroup.subtree_control", "+memory +cpu");
  write_value(machines / "memory.max", limits.memory_bytes == 0 ? "max" : std::to_string(limits.memory_bytes));
  write_value(machines / "cpu.max",
              (limits.cpus == 0 ? "max" : std::to_string(limits.cpus * period_us)) + " " + std::to_string(period_us));
}

unsigned NestedSlice::gather(Take take) const {
  const auto members = cgroups_ / group_name / machines_name / "cgroup.procs";
  const auto here = "\n" + read_value(members) + "\n";
  unsigned moved = 0;
  std::error_code gone;
  for (auto entry = fs::directory_iterator(proc_, gone); !gone && entry != fs::directory_iterator();
       entry.increment(gone)) {
    const auto pid = entry->path().filename().string();
    if (!number(pid) || pid.find_first_not_of("0123456789") != pid.npos) continue;
    if (here.find("\n" + pid + "\n") != here.npos || !holds_a_machine(entry->path())) continue;
    if (take == Take::own && is_in_libvirts_group(entry->path())) continue;
    try {
      write_value(members, pid);
      ++moved;
    } catch (const Error& error) {  // it has ended
      say("nested: {}", error.what());
    }
  }
  return moved;
}

Json nested_state(const fs::path& cgroups) {
  const auto machines = cgroups / group_name / machines_name;
  const auto memory = read_value(machines / "memory.max");
  if (memory.empty()) return nullptr;
  Json state{{"memory_bytes", nullptr}, {"cpus", nullptr}, {"machines", 0}, {"ended", 0}};
  if (const auto bytes = number(memory)) state["memory_bytes"] = *bytes;
  if (const auto quota = number(read_value(machines / "cpu.max"))) state["cpus"] = *quota / period_us;
  state["machines"] = lines(read_file_if_exists(machines / "cgroup.procs").value_or(""));
  const auto events = "\n" + read_value(machines / "memory.events");
  const auto count = [&events](std::string_view key) {
    const auto at = events.find(key);
    return at == events.npos ? 0 : number(std::string_view(events).substr(at + key.size())).value_or(0);
  };
  // Of kills by the limit of this group, not of those that the guest's own shortage brought.
  state["ended"] = std::min(count("\noom "), count("\noom_kill "));
  return state;
}

bool tells_of_a_machine(std::string_view event) {
  // "change@/devices/virtual/misc/kvm", then NAME=value, each with a zero byte at its end (kvm_uevent_notify_change in
  // virt/kvm/kvm_main.c).
  using namespace std::string_view_literals;
  return event.starts_with("change@") && event.substr(0, event.find('\0')).ends_with("/misc/kvm") &&
         event.find("\0EVENT=create\0"sv) != event.npos;
}

namespace {

UniqueFd kernel_event_socket() {
  UniqueFd fd(check_errno(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT),
                          "the kernel's events"));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kernel_events;
  check_errno(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "the kernel's events");
  return fd;
}

/// Whether one of the events that are there tells of a machine. Too many at once count as one.
bool machine_was_made(int fd) {
  bool made = false;
  char event[8192];
  for (int i = 0; i < 256; ++i) {
    const auto size = ::recv(fd, event, sizeof event, 0);
    if (size < 0 && errno == ENOBUFS) made = true;
    if (size < 0) break;
    made = made || tells_of_a_machine({event, static_cast<std::size_t>(size)});
  }
  return made;
}

void set_up_in_time(NestedSlice& slice, const NestedLimits& limits) {
  for (int attempt = 1;; ++attempt) try {
      return slice.set_up(limits);
    } catch (const Error&) {
      if (attempt == set_up_attempts) throw;
      system_clock().sleep(set_up_pause);
    }
}

}  // namespace

void keep_nested_machines(const NestedLimits& limits) {
  NestedSlice slice;
  try {
    const auto events = kernel_event_socket();
    wait_for_path("/sys/fs/cgroup/cgroup.subtree_control", Deadline::after(userspace_patience));
    set_up_in_time(slice, limits);
    const auto now = [] { return std::chrono::steady_clock::now(); };
    slice.gather(NestedSlice::Take::own);  // one may be there already
    std::size_t looks = 0;                 // since the last machine that was made
    std::optional<SteadyTime> next = now() + later_pauses[0];
    for (;;) {
      pollfd ready{events.get(), POLLIN, 0};
      ::poll(&ready, 1, next ? Deadline(*next).poll_timeout() : -1);
      if (machine_was_made(events.get())) {
        system_clock().sleep(first_pause);
        machine_was_made(events.get());
        slice.gather(NestedSlice::Take::own);
        looks = 0;
        next = now() + later_pauses[0];
      } else if (next && now() >= *next) {
        const bool last = ++looks == std::size(later_pauses);
        slice.gather(last ? NestedSlice::Take::every : NestedSlice::Take::own);
        next = last ? std::nullopt : std::optional(now() + later_pauses[looks]);
      }
    }
  } catch (const std::exception& error) {
    say("machines within this one have no limits: {}", error.what());
  }
  ::_exit(1);
}

}  // namespace agentvm::guest::agent
