#include "tests/contract/ssh/sshd.hpp"

#include <fstream>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest {
namespace {

constexpr uid_t agent_uid = 64123;

// Tests as root log in as a user that only this sshd sees, through a passwd file mounted in its own mount namespace:
// sshd sends no signals for root, and a guest's user is not root either. Other users can only be themselves.
std::string user_name() {
  if (::getuid() == 0) return "agent";
  const passwd* entry = ::getpwuid(::getuid());
  return entry != nullptr ? entry->pw_name : "nobody";
}

int mount_passwd(const char* passwd_file) {
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount(passwd_file, "/etc/passwd", nullptr, MS_BIND, nullptr) != 0)
    return errno;
  return 0;
}

bool port_answers(std::uint16_t port) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

// Parent of a process, from /proc; 0 when it is gone.
pid_t parent_of(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string text;
  std::getline(file, text);
  const auto end = text.rfind(')');
  if (end == std::string::npos) return 0;
  int parent = 0;
  return std::sscanf(text.c_str() + end, ") %*c %d", &parent) == 1 ? parent : 0;
}

}  // namespace

std::uint16_t free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  check_errno(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), "binding a free port");
  check_errno(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), "asking for the port");
  return ntohs(address.sin_port);
}

Sshd::Sshd(const std::string& more)
    : host_(generate_ed25519("host")), client_(generate_ed25519("client")), port_(free_port()) {
  std::string pattern = "/tmp/agentvm-test-sshd-XXXXXX";
  folder_ = ::mkdtemp(pattern.data());
  const std::string program = find_program("sshd");
  if (program.empty()) throw Error(ErrorCode::host_lacks, "sshd is not installed", "apt-get install openssh-server");
  fs::create_directory(folder_ / "home");
  std::string passwd_file;
  if (::getuid() == 0) {
    ::mkdir("/run/sshd", 0755);  // privilege separation wants it; the package's unit file would make it
    check_errno(::chmod(folder_.c_str(), 0755), "opening the test's folder");
    check_errno(::chown((folder_ / "home").c_str(), agent_uid, agent_uid), "giving away the test's home");
    passwd_file = folder_ / "passwd";
    const std::string line =
        "agent:x:" + std::to_string(agent_uid) + ":65534::" + (folder_ / "home").string() + ":/bin/sh\n";
    write_file_atomic(passwd_file, read_file("/etc/passwd") + line, 0644);
  }
  write_file_atomic(folder_ / "host", host_.private_pem, 0600);
  write_file_atomic(folder_ / "authorized", client_.public_line + "\n", 0644);
  write_file_atomic(
      folder_ / "config",
      "Port " + std::to_string(port_) + "\nListenAddress 127.0.0.1\nHostKey " + (folder_ / "host").string() +
          "\nAuthorizedKeysFile " + (folder_ / "authorized").string() +
          "\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nLogLevel DEBUG1\n"
          "MaxSessions 2000\nMaxStartups 100\nAllowTcpForwarding yes\nAcceptEnv *\nUseDNS no\nPrintMotd no\n" +
          more);
  const UniqueFd log = open_file(folder_ / "log", O_WRONLY | O_CREAT | O_APPEND);
  ProcessSpec spec{.argv = {program, "-D", "-e", "-f", folder_ / "config"}};
  spec.fds = {{1, log.get()}, {2, log.get()}};
  spec.die_with_parent = true;
  if (!passwd_file.empty()) spec.in_child = [file = passwd_file.c_str()] { return mount_passwd(file); };
  process_ = Process::spawn(spec);
  for (const Deadline deadline = Deadline::after(milliseconds(10'000)); !port_answers(port_); ::usleep(5000))
    if (deadline.expired() || process_->wait(Deadline::after(milliseconds(0))))
      throw Error(ErrorCode::operation_failed, "sshd did not start: " + this->log());
}

Sshd::~Sshd() {
  thaw();
  kill();
  remove_tree(folder_);
}

// sshd's children (one per connection, and theirs) have no group in common: follow the parents. Commands in the "guest"
// stay.
void Sshd::signal_all(int signal) {
  if (!process_) return;
  std::vector<pid_t> family{process_->pid()};
  ::kill(family[0], SIGSTOP);  // stopped as they are found, so that none forks another one behind our back
  for (std::size_t known = 0; known != family.size();) {
    known = family.size();
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string name = entry.path().filename();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      const pid_t pid = static_cast<pid_t>(std::stoi(name)), parent = parent_of(name);
      if (std::find(family.begin(), family.end(), parent) == family.end()) continue;
      if (std::find(family.begin(), family.end(), pid) != family.end()) continue;
      ::kill(pid, SIGSTOP);
      family.push_back(pid);
    }
  }
  for (const pid_t pid : family) ::kill(pid, signal);
}

void Sshd::kill() {
  signal_all(SIGKILL);
  if (process_) process_->wait(Deadline::after(milliseconds(5000)));
  process_.reset();
}

void Sshd::freeze() {
  signal_all(SIGSTOP);
}
void Sshd::thaw() {
  signal_all(SIGCONT);
}

std::string Sshd::log() const {
  return read_tail(folder_ / "log", 1u << 20);
}

SshEndpoint Sshd::endpoint() const {
  return {.port = port_,
          .user = user_name(),
          .private_key = client_.private_pem,
          .host_key = host_.public_line,
          .name = "test"};
}

std::string read_to_end(int fd, Deadline deadline) {
  std::string text;
  char buffer[64 * 1024];
  while (const std::size_t size = read_some(fd, buffer, sizeof buffer, deadline)) text.append(buffer, size);
  return text;
}

std::unique_ptr<Streams> connect(const Sshd& sshd, const SshOptions& options) {
  return connect_ssh(sshd.endpoint(), Deadline::after(milliseconds(10'000)), options);
}

}  // namespace agentvm::guest
