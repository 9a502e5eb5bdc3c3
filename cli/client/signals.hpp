#pragma once
#include <csignal>
#include <optional>

#include "vmm/base/fd.hpp"

namespace agentvm::cli {

/// A shell adds the number of the signal that ended a process (POSIX, "Exit Status for Commands": above 128).
inline constexpr int signal_exit_base = 128;

/// While it lives, INT, TERM, HUP, QUIT and (with `watch`) WINCH and CONT arrive on a descriptor instead of ending us.
/// Make it before threads start.
class SignalWatch {
 public:
  enum class Window { ignore, watch };
  explicit SignalWatch(Window window);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  int fd() const { return fd_.get(); }
  /// The next signal that came, if any.
  std::optional<int> take();

 private:
  UniqueFd fd_;
  sigset_t before_;
};

/// Ends this process as SIGPIPE does: what any program in a pipe does when nobody reads it any more.
[[noreturn]] void end_by_sigpipe();

/// "INT" for SIGINT; "" for a signal that is not forwarded.
const char* signal_name(int number);
/// The number of "INT"; 0 when unknown.
int signal_number(std::string_view name);

}  // namespace agentvm::cli
