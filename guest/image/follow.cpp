#include "guest/image/follow.hpp"

#include <array>
#include <cerrno>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "vmm/base/error.hpp"

namespace agentvm {

ExitStatus follow_lines(Process& child, int output, Deadline deadline, std::string_view what,
                        const std::function<void(std::string_view)>& line) {
  constexpr std::size_t longest_line_bytes = 1u << 20;
  set_nonblocking(output, true);
  std::string pending;
  bool open = true;
  /// Everything that is there now.
  const auto drain = [&] {
    std::array<char, 8192> buffer{};
    while (open) {
      const ssize_t count = ::read(output, buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EAGAIN) return;
      if (count <= 0) {
        open = false;
        return;
      }
      pending.append(buffer.data(), static_cast<std::size_t>(count));
      std::size_t start = 0;
      for (std::size_t end; (end = pending.find('\n', start)) != std::string::npos; start = end + 1)
        line(std::string_view(pending).substr(start, end - start));
      pending.erase(0, start);
      if (pending.size() > longest_line_bytes)
        throw Error(ErrorCode::operation_failed, fmt::format("{}: a line without end was printed", what));
    }
  };
  for (;;) {
    pollfd entries[2] = {{child.pidfd(), POLLIN, 0}, {open ? output : -1, POLLIN, 0}};
    const int ready = ::poll(entries, 2, deadline.poll_timeout());
    if (ready < 0 && errno != EINTR) throw_errno("poll");
    if (ready <= 0 && deadline.expired())
      throw Error(ErrorCode::timed_out, fmt::format("{} did not finish in time", what));
    // Seen first, read second: what the child wrote before it ended is in the pipe by now.
    const bool ended = ready > 0 && entries[0].revents;
    drain();
    if (ended) return *child.wait(Deadline::never());
  }
}

}  // namespace agentvm
