// Makes a scope of the user's systemd around a process of its own and prints what came of it, as "KEY: VALUE" lines.
// For a guest: it has a user's systemd where the host of these tests may have none.

#include <cstdio>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/limits.hpp"

using namespace agentvm;

namespace {

void say(const char* key, std::string value) {
  while (!value.empty() && value.back() == '\n') value.pop_back();
  std::printf("%s: %s\n", key, value.c_str());
}

}  // namespace

int main() {
  constexpr milliseconds limit{60'000};
  const ScopeLimits limits{.memory = ByteSize::gibibytes(3), .tasks = 64};
  // A shell that waits until it is let go, then starts more processes than it may.
  const auto gate = make_pipe();
  auto process =
      Process::spawn({.argv = {"sh", "-c",
                               "read go; i=0; while [ $i -lt 100 ]; do sleep 30 & i=$((i + 1)); done 2>/dev/null; "
                               "kill $(jobs -p) 2>/dev/null; exit 0"},
                      .fds = {{0, gate.first.get()}}});
  const auto scope = enter_user_scope("agentvm-probe", process.pid(), {}, limits, Deadline::after(limit));
  say("unit", scope.unit);
  say("why", scope.why_not);
  auto group = read_file("/proc/" + std::to_string(process.pid()) + "/cgroup", 4096);
  while (!group.empty() && group.back() == '\n') group.pop_back();
  group = group.substr(group.find("::") + 2);
  say("cgroup", group);
  for (const char* file : {"memory.max", "pids.max", "cpu.weight"})
    say(file, read_file_if_exists("/sys/fs/cgroup" + group + "/" + file, 64).value_or("(none)"));
  say("second", enter_user_scope("agentvm-probe", process.pid(), {}, limits, Deadline::after(limit)).why_not);
  write_all(gate.second.get(), "go\n", Deadline::after(limit));
  const auto status = process.wait(Deadline::after(limit));
  say("forks", status && status->code != 0 ? "refused" : "allowed");
}
