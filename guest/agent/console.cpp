#include "guest/agent/console.hpp"

#include <string>

#include <fcntl.h>
#include <unistd.h>

#include "vmm/base/fd.hpp"

namespace agentvm::guest::agent {
namespace {
bool kernel_log = false;
}

void say_to_kernel_log() {
  kernel_log = true;
}

void say(std::string_view text) {
  std::string line = "agentvm-guest: " + std::string(text.substr(0, 900)) + "\n";
  const UniqueFd log(kernel_log ? ::open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NONBLOCK) : -1);
  if (log) line = "<5>" + line;
  [[maybe_unused]] const auto ignored = ::write(log ? log.get() : STDERR_FILENO, line.data(), line.size());
}

void open_console() {
  const int fd = ::open("/dev/console", O_RDWR | O_NOCTTY);
  if (fd < 0) return;
  for (int target = 0; target < 3; ++target)
    if (fd != target) ::dup2(fd, target);
  if (fd > 2) ::close(fd);
}

}  // namespace agentvm::guest::agent
