#include "vmm/libvirt/machine_state.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <libvirt/libvirt-qemu.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/files.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"
#include "vmm/base/unix_socket.hpp"
#include "vmm/disk/sparse_copy.hpp"

namespace agentvm::libvirt {
namespace {

/// CPUs, devices and the slower firmware: some 300 KiB.
constexpr std::size_t devices_limit_bytes = 64u << 20;
constexpr std::uint64_t bandwidth_bytes = 1ull << 40;  // per second; the default is a network's
constexpr milliseconds look_pause{5};

Json command(virDomain* domain, const std::string& name, const Json& arguments = nullptr) {
  Json request{{"execute", name}};
  if (!arguments.is_null()) request["arguments"] = arguments;
  char* raw = nullptr;
  check_libvirt(virDomainQemuMonitorCommand(domain, dump_json(request).c_str(), &raw, 0),
                "asking the emulator: " + name);
  const Text text(raw);
  const auto answer = parse_json(text.get(), "the emulator's answer to " + name);
  if (answer.contains("error"))
    throw Error(
        ErrorCode::operation_failed,
        fmt::format("the emulator refused {}: {}", name,
                    clean_guest_text(value_or<std::string>(answer["error"], "desc", ""), Newlines::escape, 500)));
  return answer.contains("return") ? answer["return"] : Json::object();
}

using Version = std::pair<int, int>;
constexpr Version last_that_leaves_out{8, 0}, first_that_maps{9, 0};
constexpr const char* leaves_out = "x-ignore-shared";
constexpr const char* maps = "mapped-ram";

void enable(virDomain* domain, const char* capability) {
  command(domain, "migrate-set-capabilities",
          {{"capabilities", Json::array({{{"capability", capability}, {"state", true}}})}});
}

bool can_map(virDomain* domain) {
  const auto version = require<Json>(command(domain, "query-version"), "qemu");
  return Version(require<int>(version, "major"), require<int>(version, "minor")) >= first_that_maps;
}

/// A path that is a path, whatever is in it.
Json channel_to(const fs::path& file) {
  const Json address{{"transport", "file"}, {"filename", file.string()}, {"offset", 0}};
  return {{"channels", Json::array({{{"channel-type", "main"}, {"addr", address}}})}};
}

/// MigrationStatus (qapi/migration.json) of none, or of one that is over; all others are on their way.
constexpr std::array<std::string_view, 4> over{"none", "completed", "failed", "cancelled"};

bool is_over(std::string_view status) {
  return std::find(over.begin(), over.end(), status) != over.end();
}

/// Until the emulator is through with it.
void wait_until_through(virDomain* domain, Deadline deadline) {
  for (;;) {
    const auto answer = command(domain, "query-migrate");
    const auto status = value_or<std::string>(answer, "status", "none");
    if (status == "completed") return;
    if (is_over(status) && status != "none")
      throw Error(ErrorCode::operation_failed,
                  "the emulator could not hand over its state: " +
                      clean_guest_text(value_or<std::string>(answer, "error-desc", status), Newlines::escape, 500));
    if (deadline.expired()) throw Error(ErrorCode::timed_out, "the emulator did not hand over its state in time");
    system_clock().sleep(look_pause);
  }
}

/// The guest's memory, as the emulator has it: the one memfd of its kind.
UniqueFd open_memory(int pid, int flags) {
  UniqueFd found;
  const fs::path folder = fmt::format("/proc/{}/fd", pid);
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator(folder, problem)) {
    std::error_code closed;
    if (!fs::read_symlink(entry.path(), closed).string().starts_with("/memfd:memory-backend-memfd")) continue;
    if (found) throw Error(ErrorCode::operation_failed, "the emulator has more than one piece of memory");
    found = open_file(entry.path(), flags);
  }
  if (!found)
    throw Error(ErrorCode::operation_failed,
                "the emulator's memory cannot be reached" + (problem ? ": " + problem.message() : std::string()));
  return found;
}

struct RemovedAtEnd {
  const fs::path path;
  ~RemovedAtEnd() { ::unlink(path.c_str()); }
};

UniqueFd accept_in_time(int listener, Deadline deadline) {
  if (!wait_for(listener, POLLIN, deadline))
    throw Error(ErrorCode::timed_out, "the emulator did not hand over its state in time");
  return UniqueFd(check_errno(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept"));
}

std::string stream_without_memory(virDomain* domain, const fs::path& path, Deadline deadline) {
  enable(domain, leaves_out);
  const RemovedAtEnd socket{path};
  const auto listener = listen_unix(path);
  command(domain, "migrate", {{"uri", "unix:" + path.string()}});
  const auto stream = accept_in_time(listener.get(), deadline);
  auto devices = read_to_end(stream.get(), devices_limit_bytes, deadline);
  if (!devices) throw Error(ErrorCode::operation_failed, "the emulator's state is larger than any of its kind");
  wait_until_through(domain, deadline);
  return std::move(*devices);
}

void fill_memory(int pid, const fs::path& from, Deadline deadline) {
  const auto saved = open_file(from, O_RDONLY | O_NOFOLLOW), memory = open_memory(pid, O_RDWR);
  struct stat ours {
  }, theirs{};
  check_errno(::fstat(saved.get(), &ours), from.string());
  check_errno(::fstat(memory.get(), &theirs), "the emulator's memory");
  if (ours.st_size != theirs.st_size)
    throw Error(ErrorCode::usage,
                fmt::format("{} is {} bytes, the machine's memory {}", from.string(), ours.st_size, theirs.st_size));
  copy_sparse(saved.get(), memory.get(), deadline);
}

}  // namespace

bool can_save_state(const fs::path& emulator, Deadline deadline) {
  // libvirt's virConnectGetVersion would run every emulator of the host first.
  const auto shown = run({.argv = {emulator.string(), "--version"}}, deadline).out;
  Version version;
  if (std::sscanf(shown.c_str(), "QEMU emulator version %d.%d", &version.first, &version.second) != 2) return false;
  return version <= last_that_leaves_out || version >= first_that_maps;
}

void save_state(virDomain* domain, int pid, const MachineState& into, Deadline deadline) {
  command(domain, "migrate-set-parameters", {{"max-bandwidth", bandwidth_bytes}});
  const auto memory = open_file(into.memory, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
  const auto devices = open_file(into.devices, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
  if (can_map(domain)) {
    enable(domain, maps);
    command(domain, "migrate", channel_to(into.memory));
    wait_until_through(domain, deadline);
    write_all(devices.get(), maps, deadline);
  } else {
    write_all(devices.get(), stream_without_memory(domain, into.socket, deadline), deadline);
    copy_sparse(open_memory(pid, O_RDONLY).get(), memory.get(), deadline);
  }
}

void end_transfer(virDomain* domain, Deadline deadline) {
  const auto status = [domain] { return value_or<std::string>(command(domain, "query-migrate"), "status", "none"); };
  if (is_over(status())) return;
  command(domain, "migrate_cancel");
  while (!is_over(status())) {
    if (deadline.expired()) throw Error(ErrorCode::timed_out, "the emulator did not leave off writing its state");
    system_clock().sleep(look_pause);
  }
}

void load_state(virDomain* domain, int pid, const MachineState& from, Deadline deadline) {
  const auto devices = read_file(from.devices, devices_limit_bytes);
  if (devices == maps) {
    enable(domain, maps);
    command(domain, "migrate-incoming", channel_to(from.memory));
  } else {
    fill_memory(pid, from.memory, deadline);
    enable(domain, leaves_out);
    const RemovedAtEnd socket{from.socket};
    command(domain, "migrate-incoming", {{"uri", "unix:" + from.socket.string()}});
    const auto stream = connect_unix(from.socket, deadline);
    write_all(stream.get(), devices, deadline);
  }
  wait_until_through(domain, deadline);
}

}  // namespace agentvm::libvirt
