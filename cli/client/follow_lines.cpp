#include "cli/client/follow_lines.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/client/signals.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::cli {
namespace {

constexpr milliseconds look_again{250};

}  // namespace

void follow_lines(const std::string& path, std::uint64_t position,
                  const std::function<void(std::string_view lines)>& show) {
  SignalWatch signals(SignalWatch::Window::ignore);
  std::string rest;
  ino_t inode = 0;
  for (;;) {
    pollfd entry{signals.fd(), POLLIN, 0};
    if (::poll(&entry, 1, static_cast<int>(look_again.count())) > 0) return;
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) < 0) continue;
    if (inode != 0 && status.st_ino != inode) position = 0;
    inode = status.st_ino;
    if (static_cast<std::uint64_t>(status.st_size) < position) position = 0;
    char buffer[65536];
    for (;;) {
      const ssize_t count = ::pread(fd.get(), buffer, sizeof buffer, static_cast<off_t>(position));
      if (count <= 0) break;
      position += static_cast<std::uint64_t>(count);
      rest.append(buffer, static_cast<std::size_t>(count));
    }
    const auto end = rest.rfind('\n');
    if (end == std::string::npos) continue;
    show(std::string_view(rest).substr(0, end + 1));
    rest.erase(0, end + 1);
  }
}

}  // namespace agentvm::cli
