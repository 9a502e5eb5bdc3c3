#include <map>
#include <vector>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"
#include "vmm/limits.hpp"

namespace agentvm {
namespace {

constexpr milliseconds settle_step{20};

/// busctl, on the bus of this user's systemd, wherever our own runtime folder is.
RunResult call_systemd(std::vector<std::string> words, Deadline deadline) {
  const auto runtime = fmt::format("/run/user/{}", ::geteuid());
  ProcessSpec spec;
  spec.argv = {"busctl", "--user", "--timeout=10"};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  spec.env = std::map<std::string, std::string>{{"PATH", "/usr/bin:/bin"},
                                                {"XDG_RUNTIME_DIR", runtime},
                                                {"DBUS_SESSION_BUS_ADDRESS", "unix:path=" + runtime + "/bus"}};
  spec.cwd.assign(1, '/');
  return run(spec, deadline, {}, 4096);
}

std::string first_line(const RunResult& result) {
  const auto& text = result.err.empty() ? result.out : result.err;
  return clean_guest_text(text.substr(0, text.find('\n')), Newlines::escape, 200);
}

/// A call of the manager's, after its name and signature.
RunResult call_manager(const std::string& method, const std::string& signature, std::vector<std::string> arguments,
                       Deadline deadline) {
  std::vector<std::string> words = {
      "call",   "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", method,
      signature};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return call_systemd(std::move(words), deadline);
}

bool is_in(int pid, const std::string& unit) {
  try {
    return read_file_if_exists(fmt::format("/proc/{}/cgroup", pid), 1u << 16).value_or("").find("/" + unit) !=
           std::string::npos;
  } catch (const Error&) {
    return false;
  }
}

std::string refuse(const std::exception& error) {
  return clean_guest_text(error.what(), Newlines::escape, 200);
}

}  // namespace

UserScope find_user_scope(Deadline deadline) try {
  if (::geteuid() == 0) return {"", "root has no user manager"};
  if (!fs::exists("/run/systemd/system")) return {"", "this host is not run by systemd"};
  struct stat bus {};
  const auto path = fmt::format("/run/user/{}/bus", ::geteuid());
  if (::stat(path.c_str(), &bus) < 0 || !S_ISSOCK(bus.st_mode) || bus.st_uid != ::geteuid())
    return {"", "no user manager answers at " + path};
  // Version 1 gives a user nothing to hand on.
  if (!fs::exists("/sys/fs/cgroup/cgroup.controllers")) return {"", "control groups are those of version 1 here"};
  const auto answer = call_systemd({"get-property", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                    "org.freedesktop.systemd1.Manager", "Version"},
                                   deadline);
  return {"", answer.status.ok() ? "" : first_line(answer)};
} catch (const std::exception& error) {
  return {"", refuse(error)};
}

UserScope enter_user_scope(const std::string& unit, int main, std::span<const int> others, const ScopeLimits& limits,
                           Deadline deadline) try {
  if (auto found = find_user_scope(deadline); !found.why_not.empty()) return found;
  const auto scope = unit + ".scope";
  const auto made = call_manager("StartTransientUnit", "ssa(sv)a(sa(sv))",
                                 {scope,
                                  "fail",
                                  "5",
                                  "PIDs",
                                  "au",
                                  "1",
                                  std::to_string(main),
                                  "MemoryMax",
                                  "t",
                                  std::to_string(limits.memory.bytes()),
                                  "TasksMax",
                                  "t",
                                  std::to_string(limits.tasks),
                                  "CPUWeight",
                                  "t",
                                  std::to_string(limits.cpu_weight),
                                  "Description",
                                  "s",
                                  "agentvm machine " + unit,
                                  "0"},
                                 deadline);
  if (!made.status.ok()) return {"", first_line(made)};
  while (!is_in(main, scope)) {  // the call returns before its job is done
    if (deadline.expired()) return {"", "systemd did not move the machine in time"};
    system_clock().sleep(settle_step);
  }
  for (const int other : others) {
    const auto moved = call_manager("AttachProcessesToUnit", "ssau", {scope, "", "1", std::to_string(other)}, deadline);
    if (!moved.status.ok()) log::info("limits", "process {} stays outside {}: {}", other, scope, first_line(moved));
  }
  return {scope, ""};
} catch (const std::exception& error) {
  return {"", refuse(error)};
}

}  // namespace agentvm
