#include "guest/agent/init.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "guest/agent/apply.hpp"
#include "guest/agent/console.hpp"
#include "guest/agent/machine.hpp"
#include "guest/agent/supervisor.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr milliseconds device_patience{30'000};
constexpr milliseconds identity_patience{120'000};
constexpr milliseconds event_patience{1'000};
constexpr unsigned failure_pause_seconds = 2;  // lets the console's line get out
constexpr const char* new_root = "/sysroot";
constexpr const char* port_name = "org.agentvm.agent.0";

void mount_kernel_folders() {
  mount_or_throw("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC);
  mount_or_throw("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
  mount_or_throw("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

/// The accelerator trial: proves that this accelerator gets a real kernel to its first process. Nothing else may come
/// before it.
void answer_trial() {
  const auto nonce = kernel_argument("agentvm.trial");
  if (!nonce) return;
  const UniqueFd line(::open("/dev/ttyS0", O_WRONLY | O_NOCTTY | O_CLOEXEC));
  const auto text = fmt::format("agentvm-trial {}\n", nonce->substr(0, 64));
  const int fd = line ? line.get() : STDERR_FILENO;
  [[maybe_unused]] const auto ignored = ::write(fd, text.data(), text.size());
  ::tcdrain(fd);
  power_off_now();
}

/// Removes what is in the folder `dir_fd`, which it takes, and on the file system `device`.
void empty_folder(int dir_fd, dev_t device) {
  DIR* dir = ::fdopendir(dir_fd);
  if (!dir) return;
  while (const dirent* entry = ::readdir(dir)) {
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    struct stat status {};
    if (::fstatat(::dirfd(dir), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 || status.st_dev != device) continue;
    if (S_ISDIR(status.st_mode)) {
      const int child = ::openat(::dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (child >= 0) empty_folder(child, device);
      ::unlinkat(::dirfd(dir), entry->d_name, AT_REMOVEDIR);
    } else {
      ::unlinkat(::dirfd(dir), entry->d_name, 0);
    }
  }
  ::closedir(dir);
}

/// As the distribution does it at boot, but before anybody can come in: systemd-tmpfiles would do it under the hands of
/// whoever is there already.
void empty_temporary_folder() {
  struct stat status {};
  const int folder = ::open((std::string(new_root) + "/tmp").c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder >= 0 && ::fstat(folder, &status) == 0) empty_folder(folder, status.st_dev);
}

/// Makes the root disk the root, and frees the initramfs.
void switch_root() {
  struct stat old_status {};
  const int old_root = check_errno(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "/");
  check_errno(::fstat(old_root, &old_status), "/");
  for (const char* folder : {"/proc", "/sys", "/dev"})
    check_errno(::mount(folder, (std::string(new_root) + folder).c_str(), nullptr, MS_MOVE, nullptr),
                std::string("moving ") + folder);
  check_errno(::chdir(new_root), new_root);
  check_errno(::mount(".", "/", nullptr, MS_MOVE, nullptr), "moving the root");
  check_errno(::chroot("."), "chroot");
  check_errno(::chdir("/"), "/");
  empty_folder(old_root, old_status.st_dev);
}

/// Runs the steps of a start; `step` names the one that failed.
class Init {
 public:
  [[noreturn]] void run() {
    try {
      start();
    } catch (const std::exception& error) {
      fail(error.what());
    }
  }

 private:
  [[noreturn]] void start() {
    step_ = "mounting /proc, /dev and /sys";
    mount_kernel_folders();
    open_console();
    answer_trial();
    ::signal(SIGPIPE, SIG_IGN);
    // What somebody who reads the console wants to know: how far it came. The kernel itself is quiet, a line on an
    // emulated serial port costs.
    say("{}", read_file("/proc/version", 4096).substr(0, 60));
    begin("loading modules");
    load_modules("/lib/agentvm/modules.list");
    begin("opening the agent port");
    port_ = open_agent_port(port_name, Deadline::after(device_patience));
    ServerOptions options;
    fill_running_options(options);
    options.apply = [this](const Identity& identity) { apply(identity); };
    server_.emplace(port_.get(), std::move(options));
    begin("mounting the root disk");
    wait_for_path("/dev/vda", Deadline::after(device_patience));
    mount_or_throw("/dev/vda", new_root, "ext4", 0);
    empty_temporary_folder();
    begin("waiting for the host's identity request");
    const auto end = server_->run(Deadline::after(identity_patience));
    if (end == Server::End::identity_failed) throw Error(ErrorCode::operation_failed, failure_);
    if (end != Server::End::identity_applied) throw Error(ErrorCode::timed_out, "the host did not send it in time");
    begin("switching to the root disk");
    switch_root();
    if (for_template_)
      server_->set_waiting();
    else
      server_->set_running(workspace_);
    begin("starting the agent");
    if (check_errno(::fork(), "fork") == 0) supervise(port_.get(), *server_, nested_);
    begin("starting /sbin/init");
    char name[] = "/sbin/init";
    char* const argv[] = {name, nullptr};
    char* const env[] = {nullptr};
    ::execve(name, argv, env);
    throw_errno(name);
  }

  void begin(const char* step) {
    step_ = step;
    say("{}", step_);
  }

  /// A failure is the answer to the request and ends this start: a guest with half an identity must not run.
  void apply(const Identity& identity) {
    try {
      apply_steps(identity);
    } catch (Error& error) {
      failure_ = error.what();
      throw error.while_doing(step_);
    }
  }

  void apply_steps(const Identity& identity) {
    step_ = "setting the clock";
    if (identity.unix_ns != 0) set_clock(identity.unix_ns);
    step_ = "writing the identity's files";
    write_identity(new_root, identity);
    set_hostname(identity.hostname);
    step_ = "configuring the network";
    configure_loopback();
    if (identity.network) configure_network(*identity.network, Deadline::after(device_patience));
    step_ = "preparing /workspace";
    prepare_workspace(new_root, identity);
    if (identity.nested) {
      // udev gives /dev/kvm to a group that may not exist here.
      place_file(new_root, {"/etc/udev/rules.d/70-agentvm-kvm.rules", 0644, 0, 0,
                            fmt::format("KERNEL==\"kvm\", GROUP=\"{}\", MODE=\"0660\"\n", agent_gid)});
    }
    for_template_ = identity.for_template;
    if (identity.nested && !for_template_) nested_ = NestedLimits{identity.nested_memory, identity.nested_cpus};
    workspace_ = identity.workspace;
    step_ = "waiting for the host's identity request";
  }

  [[noreturn]] void fail(const std::string& why) {
    say("{} failed: {}", step_, why);
    try {
      if (server_) server_->send_event({{"event", "failed"}, {"step", step_}, {"message", why}}, event_patience);
    } catch (const std::exception& error) {
      say("telling the host failed: {}", error.what());
    }
    ::sleep(failure_pause_seconds);
    power_off_now();
  }

  std::string step_, failure_;
  UniqueFd port_;
  std::optional<Server> server_;
  std::optional<NestedLimits> nested_;
  WorkspaceKind workspace_ = WorkspaceKind::none;
  bool for_template_ = false;
};

}  // namespace

void run_init() {
  static Init init;  // static: no destructor may close the port on the way out
  init.run();
}

}  // namespace agentvm::guest::agent
