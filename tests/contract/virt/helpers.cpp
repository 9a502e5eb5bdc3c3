// What other processes do in these tests. Each prints "KEY: VALUE" lines for the test to read.

#include <thread>

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/contract/virt/support.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/unix_socket.hpp"
#include "vmm/virtiofs/mapped_process.hpp"
#include "vmm/virtiofs/virtiofsd.hpp"

namespace agentvm::test {
namespace {

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  fmt::print(format, std::forward<Args>(args)...);
  fmt::print("\n");
  std::fflush(stdout);
}

std::shared_ptr<Hypervisor> open_embedded(const fs::path& folder, Deadline deadline) {
  return open_libvirt({"embed", folder / "libvirt", find_machine_platform()}, deadline);
}

/// start FOLDER: starts a machine and waits to be killed.
int start_and_wait(const fs::path& folder) {
  const auto hypervisor = open_embedded(folder, in_seconds(30));
  const auto spec = probe_machine(folder, "avm-kept", "idle");
  hypervisor->start(spec, Hypervisor::Start::running, in_seconds(60));
  say("id: {}", spec.id);
  say("pid: {}", hypervisor->pid("avm-kept", in_seconds(5)).value_or(0));
  say("ready: yes");
  std::this_thread::sleep_for(std::chrono::seconds(300));
  return 1;
}

/// open FOLDER MILLISECONDS: opens the root, waiting that long, and says what it finds.
int open_and_look(const fs::path& folder, int wait_milliseconds) {
  say("waiting: yes");
  const auto hypervisor = open_embedded(folder, Deadline::after(milliseconds(wait_milliseconds)));
  say("open: yes");
  const auto found = hypervisor->find("avm-kept", in_seconds(20));
  say("id: {}", found ? found->id : "none");
  if (!found) return 0;
  say("pid: {}", hypervisor->pid("avm-kept", in_seconds(5)).value_or(0));
  hypervisor->pause("avm-kept", in_seconds(20));
  say("paused: {}", hypervisor->find("avm-kept", in_seconds(20))->state == DomainState::paused ? "yes" : "no");
  hypervisor->resume("avm-kept", in_seconds(20));
  hypervisor->stop("avm-kept", in_seconds(20));
  say("gone: {}", hypervisor->find("avm-kept", in_seconds(20)) ? "no" : "yes");
  return 0;
}

void say_confinement(const std::string& who, int pid) {
  const auto status = read_file(fmt::format("/proc/{}/status", pid), 65536);
  for (const char* field : {"Seccomp", "NoNewPrivs", "CapEff", "Uid"}) {
    auto text = status.substr(status.find(std::string("\n") + field + ":") + std::string(field).size() + 2);
    text = text.substr(0, text.find('\n'));
    const auto first = text.find_first_not_of(" \t");
    say("{}-{}: {}", who, field, text.substr(first, text.find('\t', first) - first));
  }
  say("{}-nice: {}", who, ::getpriority(PRIO_PROCESS, static_cast<id_t>(pid)));
  const auto score = read_file(fmt::format("/proc/{}/oom_score_adj", pid), 64);
  say("{}-oom_score_adj: {}", who, score.substr(0, score.find('\n')));
}

/// share FOLDER [read-only]: a guest works in FOLDER/workspace through virtiofs; its "probe: ..." lines come out, too.
int share_folder(const fs::path& folder, bool read_only) {
  ensure_private_dir(folder / "workspace");
  write_file_atomic(folder / "workspace" / "hello", "from the host", 0644);
  give_tree_to_workspace_owner(folder / "workspace");
  const auto hypervisor = open_embedded(folder, in_seconds(30));
  auto spec = probe_machine(folder, "avm-share", "virtiofs");
  spec.shares = {{"workspace", folder / "fs.sock"}};
  VirtiofsSpec share{folder / "workspace", folder / "fs.sock", folder / "virtiofsd.log", host_id_map(),
                     read_only ? VirtiofsSpec::Access::read_only : VirtiofsSpec::Access::read_write};
  auto daemon = start_virtiofsd(share, in_seconds(20));
  hypervisor->start(spec, Hypervisor::Start::paused, in_seconds(60));
  const auto children = read_file(fmt::format("/proc/{0}/task/{0}/children", daemon.identity().pid), 4096);
  say_confinement("waiter", daemon.identity().pid);
  say_confinement("worker", std::stoi(children));
  const auto serial = connect_unix(spec.serial_socket, in_seconds(5));
  hypervisor->resume("avm-share", in_seconds(10));
  char buffer[4096];
  const auto deadline = in_seconds(90);
  while (const auto count = read_some(serial.get(), buffer, sizeof buffer, deadline))
    fmt::print("{}", std::string_view(buffer, count));
  for (int i = 0; i < 200 && virtiofsd_runs(daemon.identity()); ++i) std::this_thread::sleep_for(milliseconds(20));
  say("daemon-ended: {}", virtiofsd_runs(daemon.identity()) ? "no" : "yes");
  hypervisor->stop("avm-share", in_seconds(20));
  const auto show = [&](const char* name) {
    struct stat status {};
    if (::lstat((folder / "workspace" / name).c_str(), &status) == 0)
      say("host-{}: {}:{}", name, status.st_uid, status.st_gid);
  };
  for (const char* name : {"from-root", "from-agent", "fifo", "leak", "hello"}) show(name);
  say("me: {}:{}", ::geteuid(), ::getegid());
  say("owner: {}:{}", workspace_owner().uid, workspace_owner().gid);
  remove_tree_mapped(folder / "workspace", in_seconds(20));
  say("removed: {}", fs::exists(folder / "workspace") ? "no" : "yes");
  return 0;
}

}  // namespace

int run_helper(const std::vector<std::string>& arguments) {
  try {
    const auto& name = arguments.at(0);
    if (name == "start") return start_and_wait(arguments.at(1));
    if (name == "open") return open_and_look(arguments.at(1), std::stoi(arguments.at(2)));
    if (name == "share") return share_folder(arguments.at(1), arguments.size() > 2);
    say("error: no helper {}", name);
  } catch (const Error& error) {
    say("error: {} {}", to_string(error.code()), error.what());
  } catch (const std::exception& error) {
    say("error: {}", error.what());
  }
  return 1;
}

}  // namespace agentvm::test
