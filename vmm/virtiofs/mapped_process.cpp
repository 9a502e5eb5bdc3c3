#include "vmm/virtiofs/mapped_process.hpp"

#include <cerrno>
#include <exception>
#include <thread>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

// The child's ends of the two pipes, above anything a caller maps.
constexpr int ready_fd = 60, go_fd = 61;
// What the child tells: its pid, or that there is no namespace for it.
struct Hello {
  pid_t pid = 0;
  int problem = 0;
};

/// Runs in the child; async-signal-safe.
int enter_namespaces() {
  Hello hello;
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) hello.problem = errno;
  hello.pid = ::getpid();
  if (::write(ready_fd, &hello, sizeof hello) != sizeof hello) return EPIPE;
  char go = 0;
  ssize_t count;
  do count = ::read(go_fd, &go, 1);
  while (count < 0 && errno == EINTR);
  if (count != 1) return hello.problem ? hello.problem : EPERM;
  ::close(ready_fd);
  ::close(go_fd);
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ? errno : 0;
}

int become_root_inside() {
  if (::setgroups(0, nullptr) < 0 || ::setresgid(0, 0, 0) < 0 || ::setresuid(0, 0, 0) < 0) return errno;
  return 0;
}

std::string map_text(const std::vector<IdRange>& ranges) {
  std::string text;
  for (const auto& range : ranges) text += fmt::format("{} {} {}\n", range.inside, range.outside, range.count);
  return text;
}

void write_map(pid_t pid, const char* file, const std::vector<IdRange>& ranges) {
  const auto fd = open_file(fmt::format("/proc/{}/{}", pid, file), O_WRONLY);
  const auto text = map_text(ranges);
  // The kernel takes a map in one write only.
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    throw_errno(fmt::format("setting {} of a user namespace", file));
}

void run_map_program(const char* program, pid_t pid, const std::vector<IdRange>& ranges, Deadline deadline) {
  ProcessSpec spec;
  spec.argv = {program, std::to_string(pid)};
  for (const auto& range : ranges)
    for (const unsigned value : {range.inside, range.outside, range.count}) spec.argv.push_back(std::to_string(value));
  const auto result = run(spec, deadline);
  if (!result.status.ok())
    throw Error(ErrorCode::host_lacks,
                fmt::format("{} refused the map of user ids: {}", program, result.err.substr(0, result.err.find('\n'))),
                "agentvm doctor");
}

void set_maps(pid_t pid, const IdMap& map, Deadline deadline) {
  if (::geteuid() == 0) {
    write_map(pid, "uid_map", map.uids);
    write_map(pid, "gid_map", map.gids);
  } else {
    run_map_program("newuidmap", pid, map.uids, deadline);
    run_map_program("newgidmap", pid, map.gids, deadline);
  }
}

Error no_namespace(int problem) {
  if (problem == ENOSPC)  // user_namespaces(7)
    return Error(ErrorCode::host_lacks,
                 "user namespaces are off on this host, or all in use (user.max_user_namespaces)",
                 "sudo sysctl user.max_user_namespaces=15000");
  return Error(ErrorCode::host_lacks, fmt::format("this host refuses user namespaces: {}", errno_text(problem)),
               "sudo sysctl kernel.unprivileged_userns_clone=1");
}

}  // namespace

struct NamespaceEntry::Helper {
  IdMap map;
  Deadline deadline;
  FdPair ready = make_pipe(), go = make_pipe();
  std::thread thread;
  std::exception_ptr error;

  Helper(IdMap the_map, Deadline the_deadline) : map(std::move(the_map)), deadline(the_deadline) {}

  /// Runs beside the spawn, which returns only once the child has executed its program.
  void serve() noexcept {
    try {
      Hello hello;
      if (read_some(ready.first.get(), &hello, sizeof hello, deadline) != sizeof hello)
        return;  // the child ended before
      if (hello.problem) throw no_namespace(hello.problem);
      set_maps(hello.pid, map, deadline);
      write_all(go.second.get(), "g", deadline);
    } catch (...) {
      error = std::current_exception();
    }
    go.second.reset();  // end of stream: the child gives up if it has not gone
  }
};

NamespaceEntry::NamespaceEntry(IdMap map, Deadline deadline)
    : helper_(std::make_unique<Helper>(std::move(map), deadline)) {}

NamespaceEntry::~NamespaceEntry() {
  helper_->ready.second.reset();
  if (helper_->thread.joinable()) helper_->thread.join();
}

void NamespaceEntry::prepare(ProcessSpec& spec, std::function<int()> inside) {
  spec.fds[ready_fd] = helper_->ready.second.get();
  spec.fds[go_fd] = helper_->go.first.get();
  spec.in_child = [outside = std::move(spec.in_child), inside = std::move(inside)] {
    int problem = outside ? outside() : 0;
    if (!problem) problem = enter_namespaces();
    if (!problem && inside) problem = inside();
    return problem ? problem : become_root_inside();
  };
  helper_->thread = std::thread([helper = helper_.get()] { helper->serve(); });
}

void NamespaceEntry::finish() {
  helper_->ready.second.reset();
  if (helper_->thread.joinable()) helper_->thread.join();
  if (helper_->error) std::rethrow_exception(helper_->error);
}

Process spawn_mapped(ProcessSpec spec, const IdMap& map, Deadline deadline, std::function<int()> inside) {
  NamespaceEntry entry(map, deadline);
  entry.prepare(spec, std::move(inside));
  try {
    auto process = Process::spawn(spec);
    entry.finish();
    return process;
  } catch (const Error&) {
    entry.finish();  // the better reason, if there is one
    throw;
  }
}

RunResult run_mapped(ProcessSpec spec, const IdMap& map, Deadline deadline) {
  NamespaceEntry entry(map, deadline);
  entry.prepare(spec);
  try {
    auto result = run(std::move(spec), deadline);
    entry.finish();
    return result;
  } catch (const Error&) {
    entry.finish();
    throw;
  }
}

void check_user_namespaces(Deadline deadline) {
  ProcessSpec spec;
  spec.argv = {"true"};
  run_mapped(std::move(spec), host_id_map(), deadline);
}

void remove_tree_mapped(const std::filesystem::path& path, Deadline deadline) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) < 0 && errno == ENOENT) return;
  if (::geteuid() == 0) return remove_tree(path);
  try {
    return remove_tree(path);  // nothing in it belongs to a subordinate id: no namespace needed
  } catch (const Error&) {
  }
  ProcessSpec spec;
  spec.argv = {"rm", "-rf", "--one-file-system", "--", path.string()};
  const auto result = run_mapped(spec, host_id_map(), deadline);
  if (!result.status.ok())
    throw Error(ErrorCode::operation_failed,
                fmt::format("removing {}: {}", path.string(), result.err.substr(0, result.err.find('\n'))),
                fmt::format("ls -la {}", path.string()));
}

namespace {
void give_children(int dir_fd, const WorkspaceOwner& owner) {
  DIR* dir = ::fdopendir(dir_fd);
  if (!dir) throw_errno("reading a directory");
  const auto close_dir = [](DIR* open) { ::closedir(open); };
  const std::unique_ptr<DIR, decltype(close_dir)> closer(dir, close_dir);
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat status {};
    check_errno(::fstatat(::dirfd(dir), name.c_str(), &status, AT_SYMLINK_NOFOLLOW), name);
    if (S_ISDIR(status.st_mode)) {
      const int child =
          check_errno(::openat(::dirfd(dir), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), name);
      give_children(child, owner);
    }
    if (status.st_uid != owner.uid || status.st_gid != owner.gid)
      check_errno(::fchownat(::dirfd(dir), name.c_str(), owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW), name);
  }
}
}  // namespace

void give_tree_to_workspace_owner(const std::filesystem::path& path) {
  if (::geteuid() != 0) return;
  const auto owner = workspace_owner();
  try {
    auto fd = open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    check_errno(::fchown(fd.get(), owner.uid, owner.gid), path.string());
    give_children(fd.release(), owner);
  } catch (Error& error) {
    error.while_doing(fmt::format("giving {} to uid {}", path.string(), owner.uid));
    throw;
  }
}

}  // namespace agentvm
