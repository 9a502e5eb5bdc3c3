#include "cli/client/pump.hpp"

#include <cerrno>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace agentvm::cli {
namespace {

constexpr std::size_t buffer_bytes = 256u << 10;

/// Waits for `events` on `fd` or for the end of the stop pipe; false when told to stop.
bool wait_or_stop(int fd, short events, int stop) {
  for (;;) {
    pollfd entries[2] = {{fd, events, 0}, {stop, POLLIN, 0}};
    if (::poll(entries, 2, -1) < 0) continue;
    if (entries[0].revents) return true;
    if (entries[1].revents) return false;
  }
}

}  // namespace

Pump::Pump(UniqueFd io, UniqueFd err_fd, Sink sink, bool input)
    : io_(std::move(io)), events_(make_pipe()), input_stop_(make_pipe()), stop_(make_pipe()) {
  set_nonblocking(events_.first.get(), true);
  set_nonblocking(events_.second.get(), true);
  out_.from = duplicate(io_.get());
  err_.from = std::move(err_fd);
  if (sink == Sink::stdio) {
    out_.to = STDOUT_FILENO;
    err_.to = STDERR_FILENO;
  } else {
    out_.into = &out;
    err_.into = &err;
  }
  err_.done = !err_.from;
  if (input) input_thread_ = std::thread([this] { copy_in(); });
  out_thread_ = std::thread([this] { copy_out(out_); });
  if (err_.from) err_thread_ = std::thread([this] { copy_out(err_); });
}

Pump::~Pump() {
  join();
}

void Pump::join() {
  input_stop_.second.reset();
  stop_.second.reset();
  for (auto* thread : {&input_thread_, &out_thread_, &err_thread_})
    if (thread->joinable()) thread->join();
}

void Pump::tell() {
  [[maybe_unused]] const auto ignored = ::write(events_.second.get(), "", 1);
}

void Pump::stop_input() {
  input_stop_.second.reset();
}

Pump::State Pump::state() {
  char drained[64];
  while (::read(events_.first.get(), drained, sizeof drained) > 0) {
  }
  return {out_.done && err_.done, reader_gone_, write_error_, out_.in_write || err_.in_write, bytes_out_};
}

bool Pump::put(Direction& direction, const char* data, std::size_t size) {
  if (direction.into) {
    const auto room = capture_limit_bytes - std::min(capture_limit_bytes, direction.into->size());
    direction.into->append(data, std::min(room, size));
    if (size > room) cut = true;
    return true;
  }
  direction.in_write = true;
  while (size > 0) {
    const ssize_t written = ::write(direction.to, data, size);
    if (written > 0) {
      data += written;
      size -= static_cast<std::size_t>(written);
    } else if (written < 0 && errno == EAGAIN) {  // another program made our terminal or pipe non-blocking
      wait_or_stop(direction.to, POLLOUT, stop_.first.get());
    } else if (written < 0 && errno != EINTR) {
      if (errno == EPIPE && direction.to == STDOUT_FILENO)
        reader_gone_ = true;
      else
        write_error_ = errno;
      direction.in_write = false;
      return false;
    }
  }
  direction.in_write = false;
  return true;
}

void Pump::copy_out(Direction& direction) {
  std::vector<char> buffer(buffer_bytes);
  while (wait_or_stop(direction.from.get(), POLLIN, stop_.first.get())) {
    const ssize_t count = ::read(direction.from.get(), buffer.data(), buffer.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) break;  // ECONNRESET counts as an end: how the process ended is told elsewhere
    bytes_out_ += static_cast<std::uint64_t>(count);
    if (!put(direction, buffer.data(), static_cast<std::size_t>(count))) break;
  }
  direction.done = true;
  tell();
}

void Pump::copy_in() {
  std::vector<char> buffer(buffer_bytes);
  const int stop = input_stop_.first.get();
  for (;;) {
    if (!wait_or_stop(STDIN_FILENO, POLLIN, stop)) return;
    const ssize_t count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) break;
    for (ssize_t done = 0; done < count;) {
      const ssize_t sent =
          ::send(io_.get(), buffer.data() + done, static_cast<std::size_t>(count - done), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) done += sent;
      if (sent < 0 && errno == EAGAIN && !wait_or_stop(io_.get(), POLLOUT, stop)) return;
      if (sent < 0 && errno != EAGAIN && errno != EINTR) return;  // the guest process takes no more input
    }
  }
  ::shutdown(io_.get(), SHUT_WR);
}

}  // namespace agentvm::cli
