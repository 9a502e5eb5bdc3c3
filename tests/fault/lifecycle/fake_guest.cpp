// A guest without a machine: fake_guest AGENT_SOCKET SERIAL_SOCKET SSH_PORT DISK. The product's own agent and this
// machine's sshd and git, in a root folder and a process space of their own, so that nothing that the host asks of a
// guest touches this machine. What it keeps over a restart is below DISK. Says "listening" once both sockets are there;
// ends like a machine that was powered off when it is asked to. Needs root.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/apply.hpp"
#include "guest/agent/server.hpp"
#include "vmm/base/files.hpp"

namespace {

using namespace agentvm;
using guest::agent_gid, guest::agent_uid;

UniqueFd listen_at(const fs::path& path) {
  UniqueFd fd(check_errno(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof address.sun_path) throw Error(ErrorCode::usage, path.string() + " is too long");
  path.native().copy(address.sun_path, path.native().size());
  check_errno(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), path.c_str());
  check_errno(::listen(fd.get(), 8), "listen");
  return fd;
}

void mount_at(const char* what, const fs::path& where, const char* type, unsigned long flags) {
  fs::create_directories(where);
  check_errno(::mount(what, where.c_str(), type, flags, nullptr), where.c_str());
}

/// What a Debian guest has, as far as the host's own programs need it.
void enter_root(const fs::path& disk) {
  check_errno(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "making mounts private");
  const auto root = disk / "root";
  mount_at("tmpfs", root, "tmpfs", 0);
  mount_at("/usr", root / "usr", nullptr, MS_BIND | MS_REC);
  for (const char* link : {"bin", "sbin", "lib", "lib32", "lib64"})
    if (fs::is_symlink(fs::path("/") / link)) fs::copy_symlink(fs::path("/") / link, root / link);
  mount_at("/dev", root / "dev", nullptr, MS_BIND | MS_REC);
  fs::create_directories(root / "proc");
  // Where a container forbids a new one, the host's tells what is asked of it, too.
  if (::mount("proc", (root / "proc").c_str(), "proc", 0, nullptr) < 0)
    mount_at("/proc", root / "proc", nullptr, MS_BIND | MS_REC);
  for (const char* folder : {"workspace", "home"}) {
    fs::create_directories(disk / folder);
    check_errno(::chown((disk / folder).c_str(), agent_uid, agent_gid), folder);
  }
  mount_at((disk / "workspace").c_str(), root / "workspace", nullptr, MS_BIND);
  mount_at((disk / "home").c_str(), root / "home/agent", nullptr, MS_BIND);
  for (const char* folder : {"etc/ssh", "run/sshd", "tmp", "var/tmp"}) fs::create_directories(root / folder);
  for (const char* folder : {"tmp", "var/tmp"}) check_errno(::chmod((root / folder).c_str(), 01777), folder);
  write_file_atomic(root / "etc/passwd",
                    fmt::format("root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n"
                                "agent:x:{}:{}::/home/agent:/bin/sh\n",
                                agent_uid, agent_gid),
                    0644);
  write_file_atomic(root / "etc/group", fmt::format("root:x:0:\nagent:x:{}:\nnogroup:x:65534:\n", agent_gid), 0644);
  check_errno(::chroot(root.c_str()), "chroot");
  check_errno(::chdir("/"), "chdir");
}

Process start_sshd(const std::string& port) {
  write_file_atomic("/etc/ssh/config",
                    "Port " + port +
                        "\nListenAddress 127.0.0.1\nHostKey /etc/ssh/ssh_host_ed25519_key\nUsePAM no\nPidFile none\n"
                        "PasswordAuthentication no\nMaxSessions 2000\nAllowTcpForwarding yes\nAcceptEnv *\nUseDNS no\n"
                        "PrintMotd no\nPrintLastLog no\n",
                    0644);
  ProcessSpec spec{.argv = {"/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/config"}};
  const auto log = open_file("/tmp/sshd.log", O_WRONLY | O_CREAT | O_APPEND);
  spec.fds = {{1, log.get()}, {2, log.get()}};
  return Process::spawn(spec);
}

/// Process 1 of its process space.
[[noreturn]] void live(const UniqueFd& agent_socket, const std::string& ssh_port, const fs::path& disk) {
  enter_root(disk);
  ::signal(SIGPIPE, SIG_IGN);
  std::optional<Process> sshd;
  auto workspace = guest::WorkspaceKind::none;
  bool identified = false;
  for (;;) {
    const UniqueFd connection(check_errno(::accept4(agent_socket.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
    guest::agent::ServerOptions options;
    options.stage = identified ? guest::agent::Stage::running : guest::agent::Stage::init;
    options.boot_id = "fake";
    options.ssh_port = static_cast<unsigned>(std::stoul(ssh_port));
    options.apply = [&](const guest::Identity& identity) {
      guest::agent::write_identity("/", identity);
      workspace = identity.workspace;
      sshd.emplace(start_sshd(ssh_port));
    };
    options.update = [](const guest::Identity&) {};
    options.set_time = [](std::int64_t) {};
    options.power_off = [](milliseconds) {
      if (::fork() == 0) {
        ::usleep(100'000);  // the answer is written first
        ::kill(1, SIGTERM);
        ::_exit(0);
      }
    };
    ::signal(SIGTERM, [](int) { ::_exit(0); });
    guest::agent::Server server(connection.get(), std::move(options));
    if (identified) server.set_running(workspace);
    if (server.run(Deadline::never()) != guest::agent::Server::End::identity_applied) continue;
    identified = true;
    server.set_running(workspace);
    server.run(Deadline::never());
  }
}

}  // namespace

int main(int count, char** words) {
  if (count != 5) return 64;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  try {
    const auto agent_socket = listen_at(words[1]), serial_socket = listen_at(words[2]);
    ::signal(SIGCHLD, SIG_DFL);
    check_errno(::unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare");
    const pid_t child = check_errno(::fork(), "fork");
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      try {
        live(agent_socket, words[3], words[4]);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "fake_guest: %s\n", error.what());
        ::_exit(1);
      }
    }
    std::puts("listening");
    std::fflush(stdout);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fake_guest: %s\n", error.what());
    return 1;
  }
}
