#include <cerrno>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/limits.hpp"

namespace agentvm {
namespace {

/// Files of /proc take a value in one write, and their own errors.
bool write_proc(const std::string& path, const std::string& text) {
  try {
    const auto file = open_file(path, O_WRONLY | O_CLOEXEC);
    return ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  } catch (const Error&) {
    return false;
  }
}

bool lower_thread(int thread) {
  errno = 0;
  const int now = ::getpriority(PRIO_PROCESS, static_cast<id_t>(thread));
  if (errno != 0) return errno == ESRCH;  // it ended
  if (now >= guest_nice) return true;
  return ::setpriority(PRIO_PROCESS, static_cast<id_t>(thread), guest_nice) == 0 || errno == ESRCH;
}

}  // namespace

bool yield_to_host(int pid) {
  bool lowered = lower_thread(pid);  // first, so that threads begun meanwhile inherit it
  std::error_code gone;
  for (const auto& thread : fs::directory_iterator(fmt::format("/proc/{}/task", pid), gone))
    lowered = lower_thread(std::atoi(thread.path().filename().c_str())) && lowered;
  // Where each session is a scheduling group of its own (sched(7), "The autogroup feature"), nice values count within
  // one only. The kernel takes one such change every tenth of a second from us, and there may be no such file.
  write_proc(fmt::format("/proc/{}/autogroup", pid), std::to_string(guest_nice));
  return write_proc(fmt::format("/proc/{}/oom_score_adj", pid), std::to_string(guest_oom_score_adj)) && lowered;
}

}  // namespace agentvm
