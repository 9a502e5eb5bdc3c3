#pragma once
// Owned file descriptors and the few calls on them that every layer needs.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "vmm/base/clock.hpp"

namespace agentvm {

/// Owns one descriptor; closes it when destroyed. -1 is empty.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

struct FdPair {
  UniqueFd first, second;
};

/// A connected AF_UNIX stream pair, close-on-exec.
FdPair make_socketpair();
/// first = read end, second = write end, close-on-exec.
FdPair make_pipe();
UniqueFd duplicate(int fd);
void set_nonblocking(int fd, bool on);

/// Waits until `events` (poll bits) hold; false when the deadline passed. Never throws on POLLHUP: the next read tells.
bool wait_for(int fd, short events, Deadline deadline);
/// Writes all of `data`; throws `timed_out` or errno. Works on blocking and non-blocking descriptors. SIGPIPE must be
/// ignored.
void write_all(int fd, std::string_view data, Deadline deadline);
/// Reads up to `size` bytes; 0 = end of stream; throws `timed_out` or errno.
std::size_t read_some(int fd, void* buffer, std::size_t size, Deadline deadline);
/// Everything up to the end of the stream; nothing where that is more than `limit_bytes`. Throws as `read_some`.
std::optional<std::string> read_to_end(int fd, std::size_t limit_bytes, Deadline deadline);

}  // namespace agentvm
