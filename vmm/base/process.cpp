#include "vmm/base/process.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

extern char** environ;

namespace agentvm {

std::string ExitStatus::describe() const {
  if (signal) return fmt::format("signal {} ({})", signal, ::strsignal(signal));
  return fmt::format("exit status {}", code);
}

namespace {

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (auto& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

/// Moves the mapped descriptors into place; closes everything else but `report`. Runs in the child: no allocation.
int place_descriptors(int* sources, const int* targets, std::size_t count, int null_fd, int& report) {
  int floor = 3;
  for (std::size_t i = 0; i < count; ++i)
    if (targets[i] >= floor) floor = targets[i] + 1;
  // First lift every source above all targets, so that no dup2 overwrites a source still needed.
  for (std::size_t i = 0; i < count; ++i)
    if ((sources[i] = ::fcntl(sources[i], F_DUPFD, floor)) < 0) return errno;
  if ((report = ::fcntl(report, F_DUPFD_CLOEXEC, floor)) < 0) return errno;
  for (int fd = 0; fd < 3; ++fd)
    if (::dup2(null_fd, fd) < 0) return errno;
  for (std::size_t i = 0; i < count; ++i)
    if (::dup2(sources[i], targets[i]) < 0) return errno;
  // Close the gaps between targets, then everything from the floor up but the report pipe.
  for (int fd = 3; fd < floor; ++fd) {
    bool wanted = false;
    for (std::size_t i = 0; i < count; ++i) wanted = wanted || targets[i] == fd;
    if (!wanted) ::close(fd);
  }
  if (report > floor) ::syscall(SYS_close_range, floor, report - 1, 0);
  ::syscall(SYS_close_range, report + 1, ~0U, 0);
  return 0;
}

/// What a child that could not become its program reports through a pipe.
struct SpawnFailure {
  int error_number = 0;
  bool in_folder = true;  ///< false: its working directory could not be entered
};

}  // namespace

Process Process::spawn(const ProcessSpec& spec) {
  if (spec.argv.empty()) throw Error(ErrorCode::usage, "no program to run");
  const std::string path = spec.argv[0].find('/') == std::string::npos ? find_program(spec.argv[0]) : spec.argv[0];
  if (path.empty())
    throw Error(ErrorCode::host_lacks, fmt::format("the program '{}' is not installed", spec.argv[0]),
                "agentvm doctor");
  auto argv_strings = spec.argv;
  auto argv = pointers(argv_strings);
  std::vector<std::string> env_strings;
  if (spec.env)
    for (const auto& [name, value] : *spec.env) env_strings.push_back(name + "=" + value);
  auto env = pointers(env_strings);
  std::vector<int> sources, targets;
  for (const auto& [target, source] : spec.fds) {
    targets.push_back(target);
    sources.push_back(source);
  }
  const auto null_fd = open_file("/dev/null", O_RDWR);
  auto report = make_pipe();
  const pid_t parent = ::getpid();
  const pid_t pid = check_errno(::fork(), "fork");
  if (pid == 0) {
    int report_fd = report.second.get();
    int problem = place_descriptors(sources.data(), targets.data(), sources.size(), null_fd.get(), report_fd);
    if (!problem && spec.die_with_parent) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(127);
    }
    if (!problem && spec.new_session) ::setsid();
    bool in_folder = true;
    if (!problem && !spec.cwd.empty() && ::chdir(spec.cwd.c_str()) < 0) {
      problem = errno;
      in_folder = false;
    }
    if (!problem && spec.in_child) problem = spec.in_child();
    if (!problem) {
      struct sigaction act {};
      act.sa_handler = SIG_DFL;
      for (int number = 1; number < 32; ++number) ::sigaction(number, &act, nullptr);
      sigset_t none;
      ::sigemptyset(&none);
      ::sigprocmask(SIG_SETMASK, &none, nullptr);
      ::execve(path.c_str(), argv.data(), spec.env ? env.data() : environ);
      problem = errno;
    }
    const SpawnFailure failure{.error_number = problem, .in_folder = in_folder};
    [[maybe_unused]] const auto ignored = ::write(report_fd, &failure, sizeof failure);
    ::_exit(127);
  }
  report.second.reset();
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (pidfd) ::fcntl(pidfd.get(), F_SETFD, FD_CLOEXEC);
  SpawnFailure failure;
  ssize_t count;
  do count = ::read(report.first.get(), &failure, sizeof failure);
  while (count < 0 && errno == EINTR);
  if (count == sizeof failure) {
    ::waitpid(pid, nullptr, 0);
    const auto problem = errno_text(failure.error_number);
    if (!failure.in_folder)
      throw Error(ErrorCode::host_lacks, fmt::format("cannot run {} in {}: {}", path, spec.cwd, problem));
    throw Error(ErrorCode::host_lacks, fmt::format("cannot run {}: {}", path, problem), "agentvm doctor");
  }
  if (!pidfd) throw_errno("pidfd_open");
  return Process(pid, std::move(pidfd));
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)), status_(other.status_) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    this->~Process();
    new (this) Process(std::move(other));
  }
  return *this;
}

Process::~Process() {
  if (pid_ <= 0 || status_) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Process::send_signal(int signal) {
  if (pid_ > 0 && !status_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0);
}

std::optional<ExitStatus> Process::wait(Deadline deadline) {
  if (status_) return status_;
  if (!wait_for(pidfd_.get(), POLLIN, deadline)) return std::nullopt;
  int raw = 0;
  while (::waitpid(pid_, &raw, 0) < 0)
    if (errno != EINTR) throw_errno("waitpid");
  status_ = WIFSIGNALED(raw) ? ExitStatus{0, WTERMSIG(raw)} : ExitStatus{WEXITSTATUS(raw), 0};
  return status_;
}

ExitStatus Process::terminate(milliseconds grace) {
  send_signal(SIGTERM);
  if (auto status = wait(Deadline::after(grace))) return *status;
  send_signal(SIGKILL);
  return *wait(Deadline::never());
}

void Process::detach() {
  pid_ = -1;
}

RunResult run(ProcessSpec spec, Deadline deadline, std::string_view input, std::size_t limit_bytes) {
  auto in = make_pipe(), out = make_pipe(), err = make_pipe();
  spec.fds[0] = in.first.get();
  spec.fds[1] = out.second.get();
  spec.fds[2] = err.second.get();
  auto process = Process::spawn(spec);
  in.first.reset();
  out.second.reset();
  err.second.reset();
  set_nonblocking(in.second.get(), true);
  if (input.empty()) in.second.reset();
  RunResult result;
  while (out.first || err.first) {
    pollfd entries[3] = {{out.first.get(), POLLIN, 0}, {err.first.get(), POLLIN, 0}, {in.second.get(), POLLOUT, 0}};
    const int ready = ::poll(entries, 3, deadline.poll_timeout());
    if (ready < 0 && errno != EINTR) throw_errno("poll");
    if (ready <= 0 && deadline.expired())
      throw Error(ErrorCode::timed_out, fmt::format("{} did not finish in time", spec.argv[0]));
    const auto drain = [&](UniqueFd& fd, short events, std::string& into) {
      if (!fd || !events) return;
      char buffer[65536];
      const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
      if (count > 0)
        into.append(buffer,
                    std::min(static_cast<std::size_t>(count), limit_bytes - std::min(limit_bytes, into.size())));
      else if (count == 0 || (errno != EINTR && errno != EAGAIN))
        fd.reset();
    };
    if (ready > 0) {
      drain(out.first, entries[0].revents, result.out);
      drain(err.first, entries[1].revents, result.err);
      if (in.second && entries[2].revents) {
        const ssize_t count = ::write(in.second.get(), input.data(), input.size());
        if (count > 0) input.remove_prefix(static_cast<std::size_t>(count));
        if (input.empty() || (count < 0 && errno != EINTR && errno != EAGAIN)) in.second.reset();
      }
    }
  }
  const auto status = process.wait(deadline);
  if (!status) throw Error(ErrorCode::timed_out, fmt::format("{} did not finish in time", spec.argv[0]));
  result.status = *status;
  return result;
}

std::string run_checked(ProcessSpec spec, Deadline deadline, std::string_view input) {
  const std::string name = spec.argv.empty() ? "" : spec.argv[0];
  auto result = run(std::move(spec), deadline, input);
  if (result.status.ok()) return std::move(result.out);
  auto text = result.err;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const auto line = text.find_last_of('\n');
  throw Error(ErrorCode::operation_failed, fmt::format("{} failed ({}): {}", name, result.status.describe(),
                                                       line == std::string::npos ? text : text.substr(line + 1)));
}

std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return ::access(name.c_str(), X_OK) == 0 ? name : "";
  const char* path = std::getenv("PATH");
  std::string folders =
      std::string(path ? path : "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/libexec:/usr/lib/qemu";
  for (std::size_t start = 0; start <= folders.size();) {
    const auto end = std::min(folders.find(':', start), folders.size());
    const auto candidate = folders.substr(start, end - start) + "/" + name;
    if (candidate[0] == '/' && ::access(candidate.c_str(), X_OK) == 0 && !std::filesystem::is_directory(candidate))
      return candidate;
    start = end + 1;
  }
  return "";
}

unsigned long long process_start_ticks(pid_t pid) {
  try {
    const auto stat = read_file(fmt::format("/proc/{}/stat", pid), 4096);
    auto position = stat.rfind(')');  // the name may hold spaces and parentheses
    for (int field = 2; field < 21 && position != std::string::npos; ++field) position = stat.find(' ', position + 1);
    return position == std::string::npos ? 0 : std::strtoull(stat.c_str() + stat.find(' ', position + 1), nullptr, 10);
  } catch (const Error&) {
    return 0;
  }
}

std::vector<int> child_processes(pid_t pid) {
  std::istringstream text(read_file_if_exists(fmt::format("/proc/{0}/task/{0}/children", pid), 4096).value_or(""));
  std::vector<int> children;
  for (int child = 0; text >> child;) children.push_back(child);
  return children;
}

std::string executable_dir() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
}

}  // namespace agentvm
