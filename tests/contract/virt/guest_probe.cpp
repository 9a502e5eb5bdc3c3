// /init of a guest that these tests make: no distribution, no agent, a second from the kernel to its answer.
// Kernel argument probe.mode: "idle" waits for the end; "virtiofs" mounts the share "workspace", works in it as root
// and as uid 1000, and prints "probe: KEY VALUE" lines on the console; both then power off. "count" prints a number of
// its own and how often it did so, and mounts the share once there is one.

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

void say(const char* key, const std::string& value) {
  std::printf("probe: %s %s\n", key, value.c_str());
  std::fflush(stdout);
}

void say_result(const char* key, long result) {
  say(key, result < 0 ? std::strerror(errno) : "ok");
}

void collect_modules(const std::string& folder, std::vector<std::string>& into) {
  DIR* dir = opendir(folder.c_str());
  if (!dir) return;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    const auto path = folder + "/" + name;
    struct stat status {};
    if (lstat(path.c_str(), &status) != 0) continue;
    if (S_ISDIR(status.st_mode)) collect_modules(path, into);
    if (name.size() > 3 && name.compare(name.size() - 3, 3, ".ko") == 0) into.push_back(path);
  }
  closedir(dir);
}

/// Dependencies are not known here: rounds, until none loads any more.
void load_modules() {
  std::vector<std::string> waiting;
  collect_modules("/lib", waiting);
  for (bool progress = true; progress;) {
    progress = false;
    for (auto& path : waiting) {
      if (path.empty()) continue;
      const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (syscall(SYS_finit_module, fd, "", 0) == 0) {
        path.clear();
        progress = true;
      }
      close(fd);
    }
  }
}

int write_text(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return -1;
  const auto count = write(fd, text, std::strlen(text));
  close(fd);
  return count == static_cast<ssize_t>(std::strlen(text)) ? 0 : -1;
}

std::string read_text(const char* path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::strerror(errno);
  char buffer[256];
  const auto count = read(fd, buffer, sizeof buffer);
  close(fd);
  return count < 0 ? std::strerror(errno) : std::string(buffer, static_cast<std::size_t>(count));
}

void attack_as_root() {
  say_result("root-write", write_text("/w/from-root", "root\n"));
  say_result("root-mknod", mknod("/w/disk", S_IFBLK | 0600, makedev(254, 0)));
  say_result("root-fifo", mkfifo("/w/fifo", 0600));
  say_result("root-setuid", write_text("/w/setuid", "x") < 0 ? -1 : chmod("/w/setuid", 04755));
  say_result("root-chown", chown("/w/setuid", 12345, 12345));
  say_result("root-chown-unmapped", chown("/w/setuid", 3000000000u, 3000000000u));
  // A terabyte at once would fill the host's disk before anybody could step in; holes take nothing.
  const int file = open("/w/from-root", O_RDWR);
  say_result("root-fallocate", fallocate(file, 0, 0, 1 << 20));
  say_result("root-fallocate-keep", fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
  say_result("root-fallocate-hole", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
  close(file);
  // A symlink is resolved here, in the guest: the host's file must never be seen through it.
  say_result("root-symlink", symlink("/etc/shadow", "/w/leak"));
  say("root-leak", read_text("/w/leak"));
  say_result("root-dotdot", open("/w/../../../../etc/shadow", O_RDONLY));
}

void work_as_agent() {
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(1000) < 0 || setuid(1000) < 0) _exit(1);
    say("agent-read", read_text("/w/hello"));
    say_result("agent-write", write_text("/w/from-agent", "agent\n"));
    say_result("agent-mkdir", mkdir("/w/folder", 0755));
    say_result("agent-over-root", write_text("/w/from-root", "no\n"));
    struct stat status {};
    stat("/w", &status);
    say("owner-seen", std::to_string(status.st_uid) + ":" + std::to_string(status.st_gid));
    _exit(0);
  }
  waitpid(child, nullptr, 0);
}

}  // namespace

int main() {
  chmod("/", 0755);  // the archive's own folder may be closed to others
  for (const char* folder : {"/proc", "/sys", "/dev", "/w"}) mkdir(folder, 0755);
  mount("proc", "/proc", "proc", 0, nullptr);
  mount("sys", "/sys", "sysfs", 0, nullptr);
  mount("dev", "/dev", "devtmpfs", 0, nullptr);
  const int console = open("/dev/console", O_RDWR);
  if (console >= 0) {
    for (int fd = 0; fd < 3; ++fd) dup2(console, fd);
  }
  const auto arguments = read_text("/proc/cmdline");
  if (arguments.find("probe.mode=virtiofs") != std::string::npos) {
    load_modules();
    say_result("mount", mount("workspace", "/w", "virtiofs", MS_NOSUID | MS_NODEV, nullptr));
    attack_as_root();
    work_as_agent();
    sync();
    say_result("umount", umount("/w"));
  } else if (arguments.find("probe.mode=count") != std::string::npos) {
    load_modules();
    const auto number = read_text("/proc/sys/kernel/random/uuid").substr(0, 36);
    bool mounted = false;
    for (unsigned count = 0;; ++count) {
      if (!mounted && mount("workspace", "/w", "virtiofs", MS_NOSUID | MS_NODEV, nullptr) == 0) {
        mounted = true;
        say("share", read_text("/w/hello"));
      }
      say("count", number + " " + std::to_string(count));
      usleep(50'000);
    }
  } else {
    say("idle", "ok");
    for (;;) pause();
  }
  say("end", "ok");
  reboot(RB_POWER_OFF);
  for (;;) pause();
}
