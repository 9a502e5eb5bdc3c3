#pragma once
// Child processes: spawned with nothing inherited but what is named, watched by pidfd, ended by a deadline.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "vmm/base/fd.hpp"

namespace agentvm {

struct ExitStatus {
  int code = 0;    ///< exit code when `signal` is 0
  int signal = 0;  ///< the signal that ended it, or 0
  bool ok() const { return code == 0 && signal == 0; }
  /// "exit status 3" or "signal 9 (Killed)".
  std::string describe() const;
};

/// What to run. Descriptors 0-2 are /dev/null unless mapped; every other descriptor of ours is closed in the child.
struct ProcessSpec {
  std::vector<std::string> argv;                          ///< argv[0] is looked up in PATH when it has no slash
  std::optional<std::map<std::string, std::string>> env;  ///< the whole environment; unset = ours
  std::string cwd;                                        ///< empty = ours
  std::map<int, int> fds;                                 ///< child descriptor -> our descriptor (stays open here)
  bool new_session = false;                               ///< setsid: survives our terminal
  bool die_with_parent = false;                           ///< SIGKILL when the spawning thread ends (PR_SET_PDEATHSIG)
  std::function<int()>
      in_child;  ///< runs after fork, before exec; async-signal-safe calls only; non-zero aborts with that errno
};

/// A running child. Destroying it kills (SIGKILL) and reaps it unless `detach` was called. Not thread-safe.
class Process {
 public:
  /// Throws `host_lacks` naming the program when it cannot be executed.
  static Process spawn(const ProcessSpec& spec);
  Process(Process&&) noexcept;
  Process& operator=(Process&&) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  /// Readable when the child has ended.
  int pidfd() const { return pidfd_.get(); }
  void send_signal(int signal);
  /// Nothing when the deadline passed first. Reaps.
  std::optional<ExitStatus> wait(Deadline deadline);
  /// SIGTERM, wait for `grace`, then SIGKILL; reaps.
  ExitStatus terminate(milliseconds grace);
  /// Forget it: it lives on and is reaped by init once we end.
  void detach();

 private:
  Process(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::optional<ExitStatus> status_;
};

struct RunResult {
  ExitStatus status;
  std::string out, err;
};
/// Runs to the end with `input` on stdin, collecting at most `limit_bytes` of each stream (the rest is read and
/// dropped). Kills it and throws `timed_out` at the deadline. A non-zero status is not an error here.
RunResult run(ProcessSpec spec, Deadline deadline, std::string_view input = {}, std::size_t limit_bytes = 4u << 20);
/// As `run`, but a failure throws `operation_failed` with the last line of standard error.
std::string run_checked(ProcessSpec spec, Deadline deadline, std::string_view input = {});

/// The absolute path of a program in PATH, /usr/sbin, /sbin or /usr/libexec; empty when there is none.
std::string find_program(const std::string& name);
/// Field 22 of /proc/PID/stat: tells a recycled pid from the process that was recorded. 0 when there is no such
/// process.
unsigned long long process_start_ticks(pid_t pid);
/// Processes that this one started and that have not ended, as far as they come from its first thread; none when it is
/// gone.
std::vector<int> child_processes(pid_t pid);
/// The folder of the running executable, resolved.
std::string executable_dir();

}  // namespace agentvm
